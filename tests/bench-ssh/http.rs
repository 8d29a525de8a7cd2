//! How soon the first byte of an answer comes by HTTP.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sparks_tests::{eventually, inside};

use crate::{
    Arguments,
    world::{World, pod_ip},
};

/// The Spark that serves.
pub const NAME: &str = "web";
/// From the start of the service's program until it listens.
const START: Duration = Duration::from_millis(20);
/// Up to where it listens. Perl, because it is in every Debian image and starts quickest.
const LISTEN: &str =
    "use Socket; socket(S, PF_INET, SOCK_STREAM, 0); setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1);
    bind(S, sockaddr_in($ENV{PORT}, INADDR_ANY)); listen(S, 128);";
const ANSWER: &str = r#"$SIG{PIPE} = "IGNORE"; while (accept(C, S)) { while (<C>) { last if /^\r?\n$/ }
    print C "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"; close C }"#;

/// First bytes.
pub struct Firsts {
    /// From the Spark that slept.
    pub asleep: Vec<Duration>,
    /// From the Spark that ran.
    pub awake: Vec<Duration>,
    /// From its pod, without the gateway.
    pub direct: Vec<Duration>,
    /// What the service is.
    pub service: String,
}

/// How long Perl takes by itself until it listens.
pub fn own_start(namespace: &str) -> Duration {
    let script = format!(
        "export PORT=9099; for i in 1 2 3 4 5 6 7 8 9; do s=$EPOCHREALTIME; perl -e '{LISTEN}'; e=$EPOCHREALTIME
        echo $((${{e/./}} - ${{s/./}})); done | sort -n | sed -n 5p"
    );
    let script = script.replace('\'', r"'\''");
    let micros = inside(namespace, "origin", &format!("bash -c '{script}'")).ok();
    Duration::from_micros(micros.trim().parse().unwrap_or(0))
}

/// A service that listens [`START`] after its start, all in all.
pub fn service(own_start: Duration) -> Value {
    let rest = START.saturating_sub(own_start).as_secs_f64();
    let program = format!("select(undef, undef, undef, {rest}); {LISTEN} {ANSWER}");
    json!({"command": ["perl", "-e", program], "readinessPath": "/", "public": true})
}

/// First bytes from the Spark: asleep, then awake.
pub fn measure(world: &World, arguments: &Arguments) -> anyhow::Result<Firsts> {
    let host = format!("{NAME}--{}.{}", world.namespace(), arguments.domain);
    let gateway = arguments.gateway_http.as_str();
    let own = own_start(world.namespace());
    let service =
        format!("Perl: listens after {:.0} ms, made up to {} ms", own.as_secs_f64() * 1e3, START.as_millis());
    let mut firsts = Firsts { asleep: vec![], awake: vec![], direct: vec![], service };
    for _ in 0..arguments.wakes {
        world.until_asleep(NAME);
        firsts.asleep.push(first_byte(gateway, &host)?);
    }
    let ip = pod_ip(world.namespace(), NAME);
    for _ in 0..arguments.logins {
        firsts.awake.push(first_byte(gateway, &host)?);
        // Requests that the gateway doesn't see keep nobody awake.
        firsts.direct.push(eventually("an answer", || first_byte(&format!("{ip}:8080"), &host).ok()));
    }
    Ok(firsts)
}

/// From before the connection until the first byte of a good answer.
fn first_byte(address: &str, host: &str) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut first = [0];
    stream.read_exact(&mut first)?;
    let took = begin.elapsed();
    let mut rest = String::from(char::from(first[0]));
    stream.read_to_string(&mut rest)?;
    anyhow::ensure!(rest.starts_with("HTTP/1.1 200") && rest.ends_with("ok\n"), "{host} answered {rest}");
    Ok(took)
}
