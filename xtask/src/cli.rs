//! One module per verb.

pub mod ci;
pub mod images;
