//! Declarative stand-ins for maintainer scripts. The lock's ledger says which script each of them replaces.

pub mod accounts;
pub mod ca_bundle;
pub mod select;
pub mod skeleton;
pub mod usrmerge;
