//! Shapes that fit into a box.

/// Something with an area.
pub trait Shape {
    /// What it is called.
    fn name(&self) -> &'static str;
    /// How large it is.
    fn area(&self) -> f64;
}

macro_rules! shape {
    ($type:ident, $name:literal, $factor:expr) => {
        #[doc = concat!("A ", $name, ".")]
        pub struct $type {
            /// Of the box around it.
            pub width: f64,
            /// Of the box around it.
            pub height: f64,
        }

        impl Shape for $type {
            fn name(&self) -> &'static str {
                $name
            }

            fn area(&self) -> f64 {
                self.width * self.height * $factor
            }
        }
    };
}

shape!(Rectangle, "rectangle", 1.0);
shape!(Triangle, "triangle", 0.5);
shape!(Ellipse, "ellipse", std::f64::consts::FRAC_PI_4);
