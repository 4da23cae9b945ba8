//! A cloud that gives tokens, each over at once and renewed once only. It has nothing else.

use super::remote;
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

/// Starts one and gives its configuration. `renewed` is told the number of each new token before it is given.
pub fn single_use(renewed: impl Fn(u32) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut newest = 0;
        for connection in listener.incoming().flatten() {
            let body = request(&connection);
            let (status, answer) = if body.ends_with(&format!("refresh_token=r{newest}")) {
                newest += 1;
                renewed(newest);
                let token = format!(r#"{{"access_token":"a","refresh_token":"r{newest}","expires_in":1}}"#);
                ("200 OK", token)
            } else if body.is_empty() {
                ("404 Not Found", r#"{"code":404,"msg":"none"}"#.to_owned())
            } else {
                ("400 Bad Request", r#"{"error":"invalid_grant"}"#.to_owned())
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close");
            let _ = write!(&connection, "{head}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
        }
    });
    let token =
        r#"{"access_token":"a","token_type":"Bearer","refresh_token":"r0","expiry":"2020-01-01T00:00:00Z"}"#;
    format!(
        "[{}]\ntype = hidrive\nclient_id = x\nclient_secret = y\nendpoint = {url}\ntoken_url = {url}\ntoken = {token}\n",
        remote::NAME
    )
}

/// Reads a request to its end and gives its body.
fn request(connection: &TcpStream) -> String {
    let mut reader = BufReader::new(connection);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
        let line = std::mem::take(&mut line).to_lowercase();
        length = line.strip_prefix("content-length: ").map_or(length, |text| text.trim().parse().unwrap());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}
