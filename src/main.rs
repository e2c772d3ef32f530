//! The palomar binary.

fn main() {}
