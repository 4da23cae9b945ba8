//! A real Docker Swarm on this machine: each node a Docker Engine of its own in namespaces of its own.
//!
//! [`shared`] gives the one swarm of the fast tests, which keep apart by the names of their stacks; [`Swarm::start`] one for a
//! test that cuts nodes off or kills daemons. Nothing of it has a name outside its namespaces, so swarms never meet, and
//! all of it ends with the test process, however that ends: the kernel kills the nodes, a janitor removes the rest.

pub mod counted;
pub mod engine;
pub mod image;
pub mod janitor;
pub mod mongo;
pub mod node;
pub mod remote;

use super::{Scratch, children::Kept};
use engine::Engine;
use janitor::Janitor;
use node::Node;
use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// Longest time that any call of the docker CLI may take, seconds: a hang is a failure of its own.
const PATIENCE: &str = "120";

/// What to start.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub engine: Engine,
    pub managers: usize,
    pub workers: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self { engine: Engine::wanted(), managers: 1, workers: 2 }
    }
}

/// Running nodes, the managers first. The first node has led since the beginning; the first worker, or the last manager
/// where there is none, carries the label `storage=1`; each one carries `mongo=` and its number.
#[derive(Debug)]
pub struct Swarm {
    nodes: Vec<Node>,
    /// The namespace with the bridge that all nodes are plugged into.
    switch: Kept,
    // Last, so that the nodes are gone when it waits for what they leave.
    janitor: Janitor,
}

/// The swarm of all tests that only deploy and look: one manager, two workers, the images loaded. `None`, and a word about it
/// on the terminal, where none can be had; with `BACKSTAY_REQUIRE_SWARM` set that is a failure.
pub fn shared() -> Option<&'static Swarm> {
    static SHARED: OnceLock<Option<Swarm>> = OnceLock::new();
    SHARED
        .get_or_init(|| {
            let swarm = start_or_say(Plan::default())?;
            swarm.load_images();
            Some(swarm)
        })
        .as_ref()
}

/// A swarm of a test's own, without images; `None` as in [`shared`].
pub fn start_or_say(plan: Plan) -> Option<Swarm> {
    match plan.engine.obstacle() {
        None => Some(Swarm::start(plan)),
        Some(why) => {
            assert!(std::env::var_os("BACKSTAY_REQUIRE_SWARM").is_none(), "no Swarm can be had here: {why}");
            // Not by a macro: those are silenced in a test that passes.
            let _ = writeln!(std::io::stderr(), "NOT RUN, a test on a real Swarm: {why}");
            None
        }
    }
}

impl Swarm {
    /// Starts the nodes and joins them.
    ///
    /// # Panics
    /// When that fails; [`Engine::obstacle`] tells before whether it can work at all.
    pub fn start(plan: Plan) -> Self {
        janitor::clear_earlier();
        let janitor = Janitor::new();
        let switch = node::switch();
        let numbers: Vec<usize> = (1..=plan.managers + plan.workers).collect();
        let nodes = in_parallel(&numbers, |n| Node::start(*n, plan.engine, janitor.folder(), switch.pid()));
        let swarm = Self { nodes, switch, janitor };
        swarm.join(plan);
        swarm
    }

    fn join(&self, plan: Plan) {
        let (first, rest) = self.nodes.split_first().expect("a swarm has a node");
        first.docker(["swarm", "init", "--advertise-addr", &first.address()]);
        let token = |role| first.docker(["swarm", "join-token", "--quiet", role]);
        let tokens = [token("manager"), token("worker")];
        let (managers, workers) = rest.split_at(plan.managers.saturating_sub(1));
        for manager in managers {
            manager.join(&tokens[0], &first.address());
        }
        in_parallel(workers, |worker| worker.join(&tokens[1], &first.address()));
        let storage = workers.first().or(rest.last()).unwrap_or(first);
        first.docker(["node", "update", "--label-add", "storage=1", &storage.name()]);
        for node in &self.nodes {
            let label = format!("mongo={}", node.number());
            first.docker(["node", "update", "--label-add", &label, &node.name()]);
        }
    }

    /// All nodes, managers first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The first manager.
    pub fn manager(&self) -> &Node {
        &self.nodes[0]
    }

    /// The node that carries the label `storage=1`.
    pub fn storage(&self) -> &Node {
        let managed = |node: &&Node| {
            let labels = ["node", "inspect", "--format", "{{index .Spec.Labels \"storage\"}}", &node.name()];
            self.manager().docker(labels) == "1"
        };
        self.nodes.iter().find(managed).expect("a node carries the label")
    }

    /// `docker …` on the first manager; gives its output without the last line's end.
    ///
    /// # Panics
    /// With what docker said, when it fails.
    pub fn docker<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> String {
        self.manager().docker(arguments)
    }

    /// Takes a node off the network, its link down; containers on it keep running.
    pub fn cut(&self, node: &Node) {
        node::link(self.switch.pid(), node.number(), "down");
    }

    /// Puts it back.
    pub fn heal(&self, node: &Node) {
        node::link(self.switch.pid(), node.number(), "up");
    }

    /// Keeps two nodes from each other; both reach everything else.
    pub fn part(&self, one: &Node, other: &Node) {
        node::route(one, other, node::Route::Lost);
        node::route(other, one, node::Route::Lost);
    }

    /// Lets them reach each other again.
    pub fn rejoin(&self, one: &Node, other: &Node) {
        node::route(one, other, node::Route::Found);
        node::route(other, one, node::Route::Found);
    }

    /// Loads a tarball of images on every node.
    pub fn load(&self, tarball: &Path) {
        in_parallel(&self.nodes, |node| node.load(tarball));
    }

    /// Loads Backstay's image and MongoDB's on every node, under the names of [`image`]; they are built when they are new.
    pub fn load_images(&self) {
        for tarball in image::tarballs(self.manager()) {
            self.load(&tarball);
        }
    }

    /// Loads Backstay's image alone: enough where policies are configs.
    pub fn load_backstay(&self) {
        self.load(&image::backstay(self.manager()));
    }

    /// A folder that goes with the swarm.
    pub fn folder(&self) -> &Path {
        self.janitor.folder()
    }
}

/// Removes a stack with this value, and waits until its tasks are gone.
#[derive(Debug)]
pub struct Stack<'a> {
    pub swarm: &'a Swarm,
    pub name: String,
    _scratch: Scratch,
}

impl<'a> Stack<'a> {
    /// `docker stack deploy` of a file that lies in the repository or is written here.
    pub fn deploy(swarm: &'a Swarm, name: &str, file: &Path, variables: &[(&str, &str)]) -> Self {
        let stack = Self { swarm, name: name.to_owned(), _scratch: Scratch::new("stack") };
        stack.redeploy(file, variables);
        stack
    }

    /// As [`Stack::deploy`], of a text.
    pub fn deploy_text(swarm: &'a Swarm, name: &str, text: &str) -> Self {
        let scratch = Scratch::new("stack");
        let file = scratch.file("stack.yaml", text);
        let stack = Self { swarm, name: name.to_owned(), _scratch: scratch };
        stack.redeploy(&file, &[]);
        stack
    }

    /// Deploys a file on top of what runs.
    pub fn redeploy(&self, file: &Path, variables: &[(&str, &str)]) {
        let file = file.to_str().expect("paths of tests are text");
        // There is no registry, so no name can be made a digest.
        let arguments = ["stack", "deploy", "--resolve-image", "never", "--compose-file", file, &self.name];
        let mut command = self.swarm.manager().command(arguments);
        let output = command.envs(variables.iter().copied()).output().expect("docker starts");
        said(&command, &output);
    }
}

impl Drop for Stack<'_> {
    fn drop(&mut self) {
        let manager = self.swarm.manager();
        let label = format!("label=com.docker.stack.namespace={}", self.name);
        let _ = manager.command(["stack", "rm", &self.name]).output();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(60) {
            let left = manager.command(["network", "ls", "--quiet", "--filter", &label]).output();
            if left.is_ok_and(|output| output.stdout.is_empty()) {
                return;
            }
            // A network stays as long as a task that is ending is on it.
            thread::sleep(Duration::from_millis(200));
            let _ = manager.command(["stack", "rm", &self.name]).output();
        }
    }
}

/// What a command printed, without the last line's end.
///
/// # Panics
/// With all that it said, when it failed.
pub fn said(command: &Command, output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?} failed: {}\n{out}\n{err}", output.status);
    out
}

pub fn in_parallel<T: Sync, R: Send>(of: &[T], each: impl Fn(&T) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let each = &each;
        let threads: Vec<_> = of.iter().map(|one| scope.spawn(move || each(one))).collect();
        threads.into_iter().map(|thread| thread.join().expect("what was done on a node worked")).collect()
    })
}
