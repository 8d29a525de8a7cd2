//! A session whose program runs: what flows between it and the client, and its end.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Duration;

use bytes::BufMut;
use rustix::io::Errno;
use rustix::process::kill_process_group;
use sparks_ssh::mux::{ChannelReader, ChannelWriter, Control, PacketBuf, Requests};
use sparks_ssh::wire::RequestKind;
use tokio::io::AsyncWriteExt;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};

use super::program::Program;
use super::signals;
use super::terminal::Terminal;
use crate::ssh::descriptor::{Patience, write_all};

/// First size of a read: a terminal never has more at a time.
const SMALL: usize = 4 << 10;

/// Size of the reads from a program that had more at a time.
const LARGE: usize = 32 << 10;

/// How long the end of a program by a signal is kept back. When the Spark is stopped, PID 1 sends one to this process
/// too, and what the client is told of that has to come first: it takes the end of its program for the end of it all.
const AFTER_SIGNAL: Duration = Duration::from_millis(5);

/// What the program is connected to.
pub struct Streams {
    /// Where it reads; closed when the client has no more.
    pub input: Input,
    /// What it writes.
    pub output: Rc<AsyncFd<OwnedFd>>,
    /// What it complains about, where that is apart.
    pub complaints: Option<Rc<AsyncFd<OwnedFd>>>,
}

/// Where a program reads.
pub enum Input {
    /// A pipe, whose end says that there is no more.
    Pipe(AsyncFd<OwnedFd>),
    /// A terminal, which has a character for that.
    Terminal(Rc<AsyncFd<OwnedFd>>),
}

/// The client's side.
pub struct Client {
    /// Input.
    pub reader: ChannelReader,
    /// Output.
    pub writer: ChannelWriter,
    /// What it asks.
    pub requests: Requests,
    /// What it is told.
    pub control: Control,
}

/// What the parts of a session tell each other.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The program has ended.
    exited: bool,
    /// The client takes no more output; complaints it still takes.
    deaf: bool,
}

/// A stream from the program to the client.
struct Flow {
    fd: Rc<AsyncFd<OwnedFd>>,
    writer: ChannelWriter,
    is_output: bool,
}

/// Serves a session until its program has ended and everything that it wrote is on its way, or until the client closes
/// it. In the latter case a terminal hangs up, by the end of its last descriptor, and pipes break.
///
/// EOF is sent when the program has no output left that is open, be it long before its end. A client that has nothing
/// more to say itself closes the channel then, and still waits for the exit status, which sshd sends after that.
pub async fn run(
    program: Program,
    streams: Streams,
    client: Client,
    terminal: Option<Terminal>,
    is_forced: bool,
) {
    let Client { reader, writer, mut requests, control } = client;
    let Program { mut child, pid } = program;
    control.hold();
    let state = watch::Sender::new(State::default());
    let (out_dry, out_is_dry) = oneshot::channel();
    let (err_dry, err_is_dry) = oneshot::channel();
    let complaining = streams.complaints.map(|fd| Flow { fd, writer: writer.extended(), is_output: false });
    let mut wants_input = state.subscribe();

    let output = Flow { fd: streams.output, writer, is_output: true };
    let output = drain(output, state.subscribe(), out_dry);
    let complaints = async {
        match complaining {
            Some(flow) => drain(flow, state.subscribe(), err_dry).await,
            None => drop(err_dry),
        }
    };
    let life = async {
        let status = child.wait().await;
        state.send_modify(|state| state.exited = true);
        // Whatever it wrote goes first. What somebody else still has open is waited for after this, as sshd does.
        let _ = tokio::join!(out_is_dry, err_is_dry);
        tell(status, &control).await;
    };
    let work = async { tokio::join!(output, complaints, life) };
    let input = async {
        tokio::select! {
            () = feed(reader, streams.input, &control) => {}
            _ = wants_input.wait_for(|state| state.exited) => {
                // The reader is gone, and what the client still sends is thrown away.
                let _ = control.eow().await;
            }
        }
        pending::<()>().await;
    };
    let asked = async {
        while let Some(request) = requests.next().await {
            let exited = state.borrow().exited;
            let done = match &request.kind {
                RequestKind::WindowChange(size) => {
                    terminal.as_ref().map(|terminal| terminal.resize(*size)).is_some()
                }
                RequestKind::Break { .. } => terminal.as_ref().is_some_and(Terminal::send_break),
                RequestKind::Signal { name } if !exited && !is_forced => {
                    signals::by_name(name).is_some_and(|signal| kill_process_group(pid, signal).is_ok())
                }
                RequestKind::Eow => {
                    state.send_modify(|state| state.deaf = true);
                    true
                }
                _ => false,
            };
            request.reply(done);
        }
    };
    tokio::select! {
        _ = work => return control.close(),
        () = input => {}
        () = asked => {}
    }
    drop(terminal);
    tokio::select! {
        status = child.wait() => tell(status, &control).await,
        () = control.closed() => {}
    }
    control.close();
}

/// Passes on what a program writes. Returns when it has no more, or when nobody wants it; says when all that was there
/// at its exit is on its way.
async fn drain(flow: Flow, mut state: watch::Receiver<State>, dry: oneshot::Sender<()>) {
    let Flow { fd, mut writer, is_output } = flow;
    let mut dry = Some(dry);
    let mut size = SMALL;
    let mut patience = Patience::default();
    loop {
        // Nothing is read that can't be sent: whoever reads slowly slows down its own program and nobody else.
        let room = tokio::select! {
            room = writer.room() => room,
            _ = state.wait_for(|state| state.deaf && is_output) => return,
        };
        let Ok(room) = room else { return };
        let mut packet = PacketBuf::with_capacity(room.min(size));
        match read(&fd, &mut packet) {
            Ok(0) => return,
            Ok(length) => {
                size = if length >= SMALL { LARGE } else { SMALL };
                if let Err(packet) = writer.send(packet)
                    && writer.write_all(packet.as_ref()).await.is_err()
                {
                    return;
                }
            }
            Err(Errno::AGAIN) => {
                drop(packet);
                let known = *state.borrow_and_update();
                if known.deaf && is_output {
                    return;
                }
                if known.exited {
                    drop(dry.take());
                }
                tokio::select! {
                    ready = patience.readable(&fd) => if ready.is_err() {
                        return;
                    },
                    _ = state.changed() => {}
                }
            }
            Err(Errno::INTR) => {}
            // EIO: nobody has the terminal open any more.
            Err(_) => return,
        }
    }
}

fn read(fd: &AsyncFd<OwnedFd>, packet: &mut PacketBuf) -> rustix::io::Result<usize> {
    let mut spare = packet.spare();
    let room = spare.remaining_mut();
    let chunk = spare.chunk_mut();
    let room = room.min(chunk.len());
    // SAFETY: nothing uninitialised is written there, and the kernel is told no more than the chunk's length.
    let uninit = unsafe {
        std::slice::from_raw_parts_mut(chunk.as_mut_ptr().cast::<std::mem::MaybeUninit<u8>>(), room)
    };
    let (read, _) = rustix::io::read(fd, uninit)?;
    let length = read.len();
    // SAFETY: the kernel has filled that many.
    unsafe { spare.advance_mut(length) };
    Ok(length)
}

/// Passes on what the client sends, and tells it when nobody reads it any more.
async fn feed(mut reader: ChannelReader, input: Input, control: &Control) {
    let fd = match &input {
        Input::Pipe(fd) => fd,
        Input::Terminal(fd) => fd,
    };
    while let Some(data) = reader.next().await {
        if write_all(fd, &data).await.is_err() {
            let _ = control.eow().await;
            return;
        }
    }
}

/// Says how the program ended.
async fn tell(status: io::Result<ExitStatus>, control: &Control) {
    // That the client has gone meanwhile is seen by whoever waits for its requests.
    let _ = match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => control.exit_status(code.cast_unsigned()).await,
            (None, Some(signal)) => {
                tokio::time::sleep(AFTER_SIGNAL).await;
                control.exit_signal(signals::name(signal), status.core_dumped(), "").await
            }
            (None, None) => Ok(()),
        },
        Err(_) => Ok(()),
    };
}
