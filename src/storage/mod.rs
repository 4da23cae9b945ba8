//! Bytes on the remote: how they are sent, laid out, found again and checked.

pub mod archive;
pub mod catalog;
pub mod child;
pub mod document;
pub mod index;
pub mod layout;
pub mod manifest;
pub mod memory;
pub mod owner;
pub mod pack;
pub mod rclone;
pub mod store;
pub mod tar;
