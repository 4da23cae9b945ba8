//! The implementations of the controller's port.
