//! Which way is taken, with an API server and a gateway that answer as the test wants.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures::{SinkExt, StreamExt};
use jiff::Timestamp;
use serde_json::{Value, json};
use spark_client::access::Key;
use spark_client::{ConnectOptions, Sparks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use super::*;

const YES: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: sparks-ssh\r\n\r\nSSH-2.0-guest\r\n";
const NO: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";

/// What the API server answers.
#[derive(Clone)]
struct Api {
    /// The gateway's address, where the installation says one.
    url: Option<String>,
    may_read_secret: bool,
    /// Exit code of `ssh --admit`, once there is one.
    admits: watch::Receiver<Option<u8>>,
    /// What was asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

/// Both servers, and a client's side.
struct World {
    api: Api,
    admits: watch::Sender<Option<u8>>,
    folder: tempfile::TempDir,
    args: Args,
}

impl World {
    /// Where everything is as it should be, but for what `change` changes.
    fn new(gateway: Option<&str>, change: impl FnOnce(&mut Self)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (admits, admitted) = watch::channel(Some(0));
        let api = Api { url: None, may_read_secret: true, admits: admitted, asked: Arc::default() };
        let args = Args {
            host: ("api".into(), None),
            identity: Some(identity::ensure(folder.path()).unwrap()),
            gateway: GatewayArgs {
                gateway_url: gateway.map(|gateway| gateway.parse().unwrap()),
                system_namespace: "sparks-system".into(),
            },
            pass_fd: false,
            verbose: false,
            wait: WaitArgs { wait: false, no_wait: true, timeout: Duration::from_secs(1) },
        };
        let mut world = Self { api, admits, folder, args };
        change(&mut world);
        world
    }

    async fn connect(&self) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(self.api.clone().serve(listener));
        let client = kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
        let sparks = Sparks::new(client, "team-a");
        let context = Context { sparks, options: ConnectOptions::default(), quiet: true };
        connect(&context, &running(), &self.args).await.unwrap()
    }

    /// What the API server was asked for, in the order of the alphabet.
    fn asked(&self) -> Vec<String> {
        let mut asked = self.api.asked.lock().unwrap().clone();
        asked.sort();
        asked
    }
}

fn running() -> Spark {
    serde_json::from_value(json!({"apiVersion": "sparks.loop.work/v1alpha1", "kind": "Spark",
        "metadata": {"name": "api", "namespace": "team-a"}, "spec": {}, "status": {"podName": "p", "conditions": [
            {"type": "Running", "status": "True", "reason": "Running", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}))
    .unwrap()
}

fn signing_key() -> Key {
    Key::new(&[0; 32]).unwrap()
}

impl Api {
    async fn serve(self, listener: TcpListener) {
        loop {
            tokio::spawn(self.clone().answer(listener.accept().await.unwrap().0));
        }
    }

    async fn answer(self, mut stream: TcpStream) {
        let path = loop {
            let mut head = [0; 1024];
            let length = stream.peek(&mut head).await.unwrap();
            if let Some((line, _)) = String::from_utf8_lossy(&head[..length]).split_once("\r\n") {
                break line.split(' ').nth(1).unwrap_or_default().to_owned();
            }
        };
        let words: Vec<&str> = path.split("command=").skip(1).collect();
        let last = words.last().map(|word| word.split('&').next().unwrap_or_default().to_owned());
        self.asked.lock().unwrap().push(last.clone().unwrap_or_else(|| path.clone()));
        match last.as_deref() {
            Some("--admit") => self.admit(stream).await,
            Some(_) => by_exec(stream).await,
            None => {
                let (code, body) = self.object(&path);
                let body = body.to_string();
                let head =
                    format!("HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nConnection: close\r\n");
                head_of(&mut stream).await;
                let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    }

    fn object(&self, path: &str) -> (u16, Value) {
        let refusal = |code, reason| {
            (
                code,
                json!({"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "status": "Failure"}),
            )
        };
        // Thirty-two bytes of zero.
        let key = format!("{}=", "A".repeat(43));
        match (path, &self.url) {
            ("/api/v1/namespaces/team-a/secrets/sparks-access", _) if self.may_read_secret => {
                (200, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {}, "data": {"key": key}}))
            }
            ("/api/v1/namespaces/sparks-system/configmaps/sparks-gateway", Some(url)) => {
                (200, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {"url": url}}))
            }
            ("/api/v1/namespaces/team-a/secrets/sparks-access", _) => refusal(403, "Forbidden"),
            _ => refusal(404, "NotFound"),
        }
    }

    async fn admit(mut self, stream: TcpStream) {
        let mut socket = websocket(stream).await;
        let line = socket.next().await.unwrap().unwrap().into_data();
        self.asked.lock().unwrap().push(String::from_utf8_lossy(&line[1..]).trim().to_owned());
        let code = self.admits.wait_for(Option::is_some).await.unwrap().unwrap_or_default();
        let causes = json!([{"reason": "ExitCode", "message": code.to_string()}]);
        let status = match code {
            0 => json!({"status": "Success"}),
            _ => json!({"status": "Failure", "details": {"causes": causes}}),
        };
        // Whoever has no use for the answer any more has gone.
        let _ = socket.send(frame(3, status.to_string().as_bytes())).await;
    }
}

async fn by_exec(stream: TcpStream) {
    let mut socket = websocket(stream).await;
    socket.send(frame(1, b"by exec")).await.unwrap();
    socket.send(frame(3, br#"{"status": "Success"}"#)).await.unwrap();
}

fn frame(channel: u8, data: &[u8]) -> Message {
    Message::binary([&[channel], data].concat())
}

#[allow(clippy::result_large_err, reason = "the signature is tungstenite's")]
async fn websocket(stream: TcpStream) -> tokio_tungstenite::WebSocketStream<TcpStream> {
    let choose = |_: &Request, mut response: Response| {
        response.headers_mut().insert("sec-websocket-protocol", "v5.channel.k8s.io".parse().unwrap());
        Ok(response)
    };
    tokio_tungstenite::accept_hdr_async(stream, choose).await.unwrap()
}

async fn head_of(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A gateway that gives everybody this answer: its port, and who came, each with what it asked.
async fn gateway(answer: &'static str) -> (u16, mpsc::Receiver<(String, TcpStream)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = head_of(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            tell.send((head, stream)).await.unwrap();
        }
    });
    (port, told)
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value).unwrap_or_default()
}

async fn tunnel(way: Way) -> Tunnel {
    match way {
        Way::Gateway(tunnel) => tunnel,
        Way::ApiServer(_) => panic!("not through the gateway"),
    }
}

async fn is_by_exec(way: Way) -> bool {
    let Way::ApiServer(process) = way else { return false };
    let mut said = Vec::new();
    process.run(tokio::io::empty(), &mut said, tokio::io::sink()).await.unwrap();
    said == b"by exec"
}

#[tokio::test]
async fn the_gateway_carries_the_bytes_of_whom_the_spark_has_let_in_and_of_nobody_before() {
    let (port, mut came) = gateway(YES).await;
    let world = World::new(Some(&format!("localhost:{port}")), |_| {});
    world.admits.send_replace(None);
    let mut connecting = std::pin::pin!(world.connect());
    let (head, mut far) = tokio::select! {
        _ = &mut connecting => panic!("the key was not let in yet"),
        came = came.recv() => came.unwrap(),
    };
    assert!(futures::poll!(&mut connecting).is_pending());
    world.admits.send_replace(Some(0));
    let tunnel = tunnel(connecting.await).await;
    assert_eq!(header(&head, "host"), format!("api--team-a.localhost:{port}"));
    // One Spark, one minute.
    let token = header(&head, "sparks-token");
    let now = Timestamp::now();
    let expires = signing_key().open(token, "team-a", "api", now).unwrap();
    assert!(expires <= now + TOKEN_LIFE);
    assert!(signing_key().open(token, "team-a", "other", now).is_err());
    // Nothing but what is needed: the Spark is not read again.
    let key = identity::public(world.args.identity.as_deref().unwrap()).unwrap();
    assert_eq!(world.asked(), ["--admit", "/api/v1/namespaces/team-a/secrets/sparks-access", &key]);

    let ((input, keys), (screen, output)) = (rustix::pipe::pipe().unwrap(), rustix::pipe::pipe().unwrap());
    rustix::io::write(&keys, b"SSH-2.0-client\r\n").unwrap();
    drop(keys);
    let server = async {
        let mut heard = String::new();
        far.read_to_string(&mut heard).await.unwrap();
        far.write_all(b"bye").await.unwrap();
        drop(far);
        heard
    };
    let (joined, heard) = tokio::join!(tunnel.join(input, output), server);
    joined.unwrap();
    assert_eq!(heard, "SSH-2.0-client\r\n");
    let mut seen = String::new();
    File::from(screen).read_to_string(&mut seen).unwrap();
    assert_eq!(seen, "SSH-2.0-guest\r\nbye");
}

#[tokio::test]
async fn the_connection_that_ssh_gets_has_all_that_the_guest_says() {
    let (port, mut came) = gateway(YES).await;
    let world = World::new(Some(&format!("localhost:{port}")), |_| {});
    let Way::Gateway(tunnel) = world.connect().await else { panic!("not through the gateway") };
    let mut socket = File::from(tunnel.into_socket().unwrap().unwrap());
    let (_, mut far) = came.recv().await.unwrap();
    far.write_all(b"more").await.unwrap();
    drop(far);
    let mut said = String::new();
    socket.read_to_string(&mut said).unwrap();
    assert_eq!(said, "SSH-2.0-guest\r\nmore");
}

#[tokio::test]
async fn the_installation_says_where_the_gateway_is_and_which_name_an_address_stands_for() {
    let (port, mut came) = gateway(YES).await;
    let world = World::new(None, |world| world.api.url = Some(format!("http://localhost:{port}")));
    tunnel(world.connect().await).await;
    let (head, _) = came.recv().await.unwrap();
    assert_eq!(header(&head, "host"), format!("api--team-a.localhost:{port}"));

    let address = format!("http://127.0.0.1:{port}");
    let world = World::new(Some(&address), |world| world.api.url = Some("https://sparks.example.com".into()));
    tunnel(world.connect().await).await;
    let (head, _) = came.recv().await.unwrap();
    assert_eq!(header(&head, "host"), "api--team-a.sparks.example.com");
}

#[tokio::test]
async fn whatever_is_in_the_gateways_way_the_api_server_has_one() {
    let (open, _open) = gateway(YES).await;
    let (closed, _closed) = gateway(NO).await;
    let (web, _web) = gateway("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let nobody: SocketAddr = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let at = |port: u16| format!("http://localhost:{port}");
    type Obstacle = (&'static str, Option<String>, fn(&mut World));
    let obstacles: [Obstacle; 9] = [
        ("the gateway refuses", Some(at(closed)), |_| {}),
        ("another server is there", Some(at(web)), |_| {}),
        ("nobody is there", Some(at(nobody.port())), |_| {}),
        ("it has no such name", Some("http://sparks.invalid".into()), |_| {}),
        ("it speaks no TLS", Some(format!("https://localhost:{open}")), |_| {}),
        ("nobody says where it is", None, |_| {}),
        ("the Secret may not be read", Some(at(open)), |world| world.api.may_read_secret = false),
        ("the guest is old", Some(at(open)), |world| {
            world.admits.send_replace(Some(2));
        }),
        ("the key has gone", Some(at(open)), |world| {
            world.args.identity = Some(world.folder.path().join("gone"));
        }),
    ];
    for (what, gateway, change) in obstacles {
        let world = World::new(gateway.as_deref(), change);
        assert!(is_by_exec(world.connect().await).await, "{what}");
        assert!(world.asked().contains(&"--stdio".to_owned()), "{what}");
    }
}

#[tokio::test]
async fn without_a_key_of_its_own_nobody_asks_for_the_gateway() {
    let (port, mut came) = gateway(YES).await;
    let world = World::new(Some(&format!("localhost:{port}")), |world| world.args.identity = None);
    assert!(is_by_exec(world.connect().await).await);
    assert_eq!(world.asked(), ["--stdio"]);
    assert!(came.try_recv().is_err());
}
