//! The resources as people write them, and the way from text to typed values.
//!
//! ```text
//! yaml    text → trees that know their lines; labels  a service's labels → trees
//! merge   the controller's defaults below a policy
//! check   tree against the schema of its kind: every error at once, each with the field and the nearest known name
//! document  the typed resource, and where in the text each field stands
//! ```
//!
//! [`schema`] is derived from the types; the reference and the custom resource definitions are generated from it.

pub mod backup;
pub mod check;
pub mod crd;
pub mod document;
pub mod labels;
pub mod location;
pub mod merge;
pub mod policy;
pub mod reference;
pub mod restore;
pub mod schema;
pub mod task;
pub mod tree;
pub mod yaml;

/// `apiVersion` of every resource.
pub const API_VERSION: &str = "backstay.dev/v1alpha1";
