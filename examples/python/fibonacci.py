"""Prints the first Fibonacci numbers; how many is the argument."""
import sys


def fibonacci():
    """All Fibonacci numbers, from 0 on."""
    a, b = 0, 1
    while True:
        yield a
        a, b = b, a + b


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    for n, value in zip(range(count), fibonacci()):
        print(f"fibonacci({n}) = {value}")


if __name__ == "__main__":
    main()
