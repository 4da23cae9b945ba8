//! Progress for a person: a bar with rate and ETA on a terminal, a line now and then elsewhere; on stderr.

use crate::{cli::output, domain::size::human, task::context::Meter};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::{self, IsTerminal},
    sync::{Arc, mpsc},
    thread::{JoinHandle, spawn},
    time::{Duration, Instant},
};

/// How often a bar moves.
const TICK: Duration = Duration::from_millis(150);
/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(15);

/// Shows what a meter says until it is dropped.
pub struct Watch {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to show `meter`; nothing at all when `quiet`.
    pub fn start(meter: Arc<Meter>, quiet: bool) -> Self {
        if quiet {
            return Self { stop: None, thread: None };
        }
        let (stop, stopped) = mpsc::channel();
        let show = if io::stderr().is_terminal() { bar } else { lines };
        Self { stop: Some(stop), thread: Some(spawn(move || show(&meter, &stopped))) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A thread that only draws has nothing to report.
            let _ = thread.join();
        }
    }
}

fn goes_on(stopped: &mpsc::Receiver<()>, wait: Duration) -> bool {
    stopped.recv_timeout(wait) == Err(mpsc::RecvTimeoutError::Timeout)
}

fn bar(meter: &Meter, stopped: &mpsc::Receiver<()>) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
    let style = |template: &str| ProgressStyle::with_template(template).ok();
    let known = style("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    let unknown = style("{msg} {spinner} {bytes} {bytes_per_sec}");
    let mut phase = String::new();
    while goes_on(stopped, TICK) {
        let now = meter.read();
        // Nothing has begun: there is nothing to show.
        if now.phase.is_empty() {
            continue;
        }
        if now.phase != phase {
            phase.clone_from(&now.phase);
            bar.reset();
            let style = if now.total_bytes.is_some() { &known } else { &unknown };
            style.iter().for_each(|style| bar.set_style(style.clone()));
            bar.set_message(now.phase);
        }
        bar.set_length(now.total_bytes.unwrap_or(0));
        bar.set_position(now.bytes);
    }
    bar.finish_and_clear();
}

fn lines(meter: &Meter, stopped: &mpsc::Receiver<()>) {
    let (mut phase, mut begun) = (String::new(), Instant::now());
    while goes_on(stopped, LINE) {
        let now = meter.read();
        if now.phase.is_empty() {
            continue;
        }
        if now.phase != phase {
            phase.clone_from(&now.phase);
            begun = Instant::now();
        }
        let total = now.total_bytes.map(|total| format!(" of {}", human(total))).unwrap_or_default();
        let rate = now.bytes / begun.elapsed().as_secs().max(1);
        output::note(format!("{}: {}{total}, {}/s", now.phase, human(now.bytes), human(rate)));
    }
}
