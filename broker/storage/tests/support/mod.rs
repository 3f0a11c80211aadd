//! A plain model of a log, and a driver that runs operations on both and compares.

pub mod disk;
pub mod driver;
pub mod model;
