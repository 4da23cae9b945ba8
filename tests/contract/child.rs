//! Children of the program die with it.

use crate::support::children;
use rustix::process::Signal;
use std::{
    io::Read as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Starts `program` as a child of `parent`, by way of the program.
fn start(parent: u32, program: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_backstay"))
        .arg("__child")
        .arg(parent.to_string())
        .args(program)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn the_kernel_kills_it_when_its_starter_ends() {
    let own = std::process::id();
    // The signal follows the thread that started it.
    let mut child = std::thread::spawn(move || {
        let mut child = start(own, &["sh", "-c", "echo started; exec sleep 600"]);
        let mut word = [0; 7];
        child.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
        assert_eq!(&word, b"started");
        child
    })
    .join()
    .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            children::signal_pid(child.id(), Signal::KILL);
            panic!("it lives on");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(!status.success());
}

#[test]
fn it_becomes_the_program_and_only_for_its_parent() {
    let output = start(std::process::id(), &["echo", "a", "b c"]).wait_with_output().unwrap();
    assert_eq!(output.stdout, b"a b c\n");
    let output = start(1, &["echo"]).wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(127), 0));
    let output = start(std::process::id(), &["/nonexistent/rclone"]).wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error, "backstay: /nonexistent/rclone: No such file or directory (os error 2)\n");
}
