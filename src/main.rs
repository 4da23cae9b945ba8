//! The `backstay` program: everything is in the library, this only hands over the exit code.
use std::process::ExitCode;

fn main() -> ExitCode {
    // Tools that must not outlive a task are started as this program first.
    if let Err(error) = backstay::storage::child::become_child(std::env::args_os()) {
        eprintln!("backstay: {error}");
        return ExitCode::from(127);
    }
    backstay::cli::main()
}
