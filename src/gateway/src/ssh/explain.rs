//! A connection that leads nowhere: the client is told why, where it looks.
//!
//! OpenSSH shows what a session writes to standard error in all its programs (ssh, scp, sftp, and what uses them),
//! and ends with the session's exit status. A client that opens no session (`-N`) gets the text with the goodbye.

use std::time::Duration;

use bytes::Bytes;
use sparks_ssh::{
    Packets,
    mux::{Channel, Connection, Incoming, Limits},
    transport::{Farewell, Reason},
    wire::{ChannelKind, OpenReason, RequestKind},
};
use tokio::{io::AsyncWriteExt, time::timeout};

/// How long a client may take to open a session.
const OPENS_WITHIN: Duration = Duration::from_secs(3);
/// How long a client may take to ask for something in it, and to read the answer.
const TAKES_AT_MOST: Duration = Duration::from_secs(20);
/// A connection that leads nowhere needs little.
const LIMITS: fn() -> Limits =
    || Limits { window: 32 << 10, total_window: 64 << 10, channels: 8, ..Limits::default() };

/// Tells a client why the connection ends, and ends it.
pub async fn explain(packets: Packets, farewell: &Farewell, text: &str, status: u32) {
    let (mut connection, opener, driver) = Connection::start(packets, LIMITS());
    let told = async {
        let first = timeout(OPENS_WITHIN, first_session(&mut connection, text)).await;
        match first {
            Ok(Some(channel)) => drop(timeout(TAKES_AT_MOST, session(channel, text, status)).await),
            // The transport has ended.
            Ok(None) => {}
            Err(_) => farewell.say(Reason::ByApplication, text).await,
        }
        // The client ends the connection once its session has ended; its goodbye is waited for, but not for long.
        let _ = timeout(OPENS_WITHIN, refuse_all(&mut connection, text)).await;
    };
    tokio::select! {
        () = told => {}
        _ = driver.run() => {}
    }
    opener.disconnect();
}

async fn first_session(connection: &mut Connection, text: &str) -> Option<Channel> {
    loop {
        match connection.next().await? {
            Incoming::Open(request) if request.kind == ChannelKind::Session => return Some(request.accept()),
            Incoming::Open(request) => request.reject(OpenReason::ConnectFailed, text),
            Incoming::Global(_) => {}
        }
    }
}

async fn refuse_all(connection: &mut Connection, text: &str) {
    while let Some(incoming) = connection.next().await {
        if let Incoming::Open(request) = incoming {
            request.reject(OpenReason::ConnectFailed, text);
        }
    }
}

/// Says it in a session, once a program was asked for in it.
pub async fn session(channel: Channel, text: &str, status: u32) {
    let Channel { reader, stderr, writer, mut requests, control } = channel;
    drop((reader, stderr));
    loop {
        let Some(request) = requests.next().await else { return };
        let starts = matches!(
            request.kind,
            RequestKind::Shell | RequestKind::Exec { .. } | RequestKind::Subsystem { .. }
        );
        // A terminal is granted, so that the client shows what comes without changing its mind about it.
        let granted = starts || matches!(request.kind, RequestKind::Pty(_) | RequestKind::Env { .. });
        request.reply(granted);
        if starts {
            break;
        }
    }
    // Carriage returns, because the client may have made its terminal raw.
    let line = Bytes::from(format!("{text}\r\n"));
    let mut errors = writer.extended();
    let _ = errors.write_all(&line).await;
    drop((errors, writer));
    let _ = control.exit_status(status).await;
    control.close();
    control.closed().await;
}
