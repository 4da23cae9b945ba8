//! A cloud that gives tokens, each over soon and renewed once only; with a bucket, or with nothing else.

mod bucket;
mod http;

use super::remote;
use bucket::Bucket;
use http::{Answer, Request};
use std::{
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

/// What is told the number of each new token before it is given.
type Renewed = Box<dyn Fn(u32) + Send + Sync>;

/// A cloud on this host; it serves until the test process ends.
struct Cloud {
    /// Number of the newest token.
    newest: Mutex<u32>,
    /// How long a token can be used, seconds. rclone renews it ten seconds earlier.
    lifetime: u64,
    renewed: Renewed,
    bucket: Option<Bucket>,
}

/// Starts one that has nothing but tokens, each over at once, and gives its configuration.
pub fn single_use(renewed: impl Fn(u32) + Send + Sync + 'static) -> String {
    let url = serve(1, renewed, |_| None);
    format!(
        "[{}]\ntype = hidrive\nclient_id = x\nclient_secret = y\nendpoint = {url}\n{}",
        remote::NAME,
        token(&url)
    )
}

/// Starts one with a bucket named `WT`, whose tokens rclone uses for `seconds`, and gives its configuration.
pub fn bucket(seconds: u64, renewed: impl Fn(u32) + Send + Sync + 'static) -> String {
    let url = serve(seconds + 10, renewed, |url| Some(Bucket::at(url)));
    format!(
        "[{}]\ntype = google cloud storage\nclient_id = x\nclient_secret = y\nendpoint = {url}/\n{}",
        remote::NAME,
        token(&url)
    )
}

/// The token that a person got, which is over.
fn token(url: &str) -> String {
    let token =
        r#"{"access_token":"a","token_type":"Bearer","refresh_token":"r0","expiry":"2020-01-01T00:00:00Z"}"#;
    format!("token_url = {url}/token\ntoken = {token}\n")
}

/// Starts a cloud and gives its URL, which what it keeps is told, too.
fn serve(
    lifetime: u64,
    renewed: impl Fn(u32) + Send + Sync + 'static,
    bucket: impl FnOnce(&str) -> Option<Bucket>,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let bucket = bucket(&url);
    let cloud = Arc::new(Cloud { newest: Mutex::new(0), lifetime, renewed: Box::new(renewed), bucket });
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let cloud = Arc::clone(&cloud);
            thread::spawn(move || {
                if let Some(request) = Request::read(&connection) {
                    cloud.answer(&request).send(&connection);
                }
            });
        }
    });
    url
}

impl Cloud {
    fn answer(&self, request: &Request) -> Answer {
        if request.path == "/token" {
            return self.renew(request);
        }
        match &self.bucket {
            Some(bucket) if request.header("authorization") == Some("bearer a") => bucket.answer(request),
            Some(_) => Answer::json(401, r#"{"error":{"code":401,"message":"no token"}}"#),
            None => Answer::json(404, r#"{"code":404,"msg":"none"}"#),
        }
    }

    fn renew(&self, request: &Request) -> Answer {
        let mut newest = self.newest.lock().unwrap();
        let spent = format!("refresh_token=r{newest}");
        if !String::from_utf8_lossy(&request.body).split('&').any(|field| field == spent) {
            return Answer::json(400, r#"{"error":"invalid_grant"}"#);
        }
        *newest += 1;
        (self.renewed)(*newest);
        let lifetime = self.lifetime;
        Answer::json(
            200,
            format!(
                r#"{{"access_token":"a","token_type":"Bearer","refresh_token":"r{newest}","expires_in":{lifetime}}}"#
            ),
        )
    }
}
