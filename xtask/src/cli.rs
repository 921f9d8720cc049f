//! One module per verb.

pub mod bench;
pub mod ci;
pub mod images;
