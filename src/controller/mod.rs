//! The shell of the controller: observe, decide, act, record.
