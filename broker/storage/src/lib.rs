mod disk;
mod lock;
pub use disk::*;
