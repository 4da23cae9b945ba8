//! MongoDB in a stack, talked to from within its containers' networks: nobody else reaches it.

use super::{Swarm, node::Node};
use mongodb::{
    Client,
    bson::{Document, doc},
    options::{ClientOptions, ServerAddress},
};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Does something with the server of a service, by a direct connection.
pub fn on<T: Send>(swarm: &Swarm, service: &str, work: impl AsyncFnOnce(Client) -> T + Send) -> T {
    let (node, container) = container(swarm, service);
    node.in_network_of(&container, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { work(direct()).await })
    })
}

/// Makes `<stack>_mongo1` to `3` a replica set, and waits until each one is primary, the first, or secondary.
pub fn initiate(swarm: &Swarm, stack: &str) {
    let service = |n: usize| format!("{stack}_mongo{n}");
    for n in 1..=3 {
        until(swarm, &service(n), |_| true);
    }
    let members: Vec<Document> = (1..=3)
        // The first one wins the first election at once.
        .map(|n| doc! {"_id": n, "host": format!("mongo{n}:27017"), "priority": if n == 1 { 2.0 } else { 1.0 }})
        .collect();
    let settings = doc! {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500};
    let config = doc! {"_id": "rs1", "members": members, "settings": settings};
    on(swarm, &service(1), async |client| {
        client.database("admin").run_command(doc! {"replSetInitiate": config}).await.unwrap();
    });
    until(swarm, &service(1), |hello| hello.get_bool("isWritablePrimary").unwrap_or(false));
    for n in 2..=3 {
        until(swarm, &service(n), |hello| hello.get_bool("secondary").unwrap_or(false));
    }
}

fn until(swarm: &Swarm, service: &str, ready: impl Fn(&Document) -> bool + Sync) {
    on(swarm, service, async |client| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(120) {
            let hello = client.database("admin").run_command(doc! {"hello": 1}).await;
            if hello.is_ok_and(|reply| ready(&reply)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{service} does not become ready");
    });
}

fn direct() -> Client {
    let options = ClientOptions::builder()
        .hosts(vec![ServerAddress::Tcp { host: "127.0.0.1".to_owned(), port: None }])
        .direct_connection(true)
        .server_selection_timeout(Duration::from_secs(60))
        .build();
    Client::with_options(options).unwrap()
}

/// The node on which a service's one container runs, and the container, once it does.
fn container<'a>(swarm: &'a Swarm, service: &str) -> (&'a Node, String) {
    let label = format!("label=com.docker.swarm.service.name={service}");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(120) {
        for node in swarm.nodes() {
            let found = node.docker(["ps", "--quiet", "--filter", &label]);
            if let Some(id) = found.lines().next() {
                return (node, id.to_owned());
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("no container of {service} runs: {}", swarm.docker(["service", "ps", "--no-trunc", service]));
}
