//! What backup, restore and drills of a MongoDB deployment have in common.

pub mod catalog;
pub mod compare;
pub mod connection;
pub mod failure;
pub mod member;
pub mod scratch;
pub mod tool;
