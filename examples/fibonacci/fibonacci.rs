//! Prints the first Fibonacci numbers, reckoned the slow way.

fn fibonacci(n: u32) -> u64 {
    match n {
        0 | 1 => u64::from(n),
        _ => fibonacci(n - 1) + fibonacci(n - 2),
    }
}

fn main() {
    for n in 0..=30 {
        println!("fibonacci({n}) = {}", fibonacci(n));
    }
}
