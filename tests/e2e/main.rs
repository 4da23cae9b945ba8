//! The whole product, by its command line, on real servers, files and remotes.

#[path = "../support/mod.rs"]
mod support;

mod by_hand;
mod crash;
mod data;
mod faults;
mod journey;
mod kube;
mod nights;
mod reading;
mod site;
mod swarm;
mod words;
