//! Tells the areas of shapes of the given width and height.
use shapes::{Ellipse, Rectangle, Shape, Triangle};

fn main() {
    let mut sizes = std::env::args().skip(1).map(|text| text.parse::<f64>());
    let (width, height) = match (sizes.next(), sizes.next()) {
        (Some(Ok(width)), Some(Ok(height))) => (width, height),
        _ => {
            eprintln!("usage: areas WIDTH HEIGHT");
            std::process::exit(2);
        }
    };
    let shapes: [Box<dyn Shape>; 3] = [
        Box::new(Rectangle { width, height }),
        Box::new(Triangle { width, height }),
        Box::new(Ellipse { width, height }),
    ];
    for shape in &shapes {
        println!("{:<9} {:8.3}", shape.name(), shape.area());
    }
}
