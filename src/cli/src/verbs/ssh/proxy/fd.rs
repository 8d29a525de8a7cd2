//! OpenSSH's `ProxyUseFdpass`: the proxy passes a connection, ends, and ssh speaks on it itself.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::fstat;
use rustix::net::sockopt::{socket_domain, socket_peercred};
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// The flag that asks for it.
const PASS_FD: &str = "--pass-fd";
/// The option without which no gateway is asked for.
const IDENTITY: &str = "--identity";

/// Whether it is OpenSSH that waits for a connection. It gives its proxy one Unix socket as input and output. So does
/// libssh, which reads the same configuration and knows nothing of `ProxyUseFdpass`; other programs give pipes.
pub fn is_wanted(input: impl AsFd, output: impl AsFd) -> bool {
    is_same(&input, &output)
        && socket_domain(&output).is_ok_and(|domain| domain == AddressFamily::UNIX)
        && socket_peercred(&output).is_ok_and(|peer| {
            let process = PathBuf::from(format!("/proc/{}", peer.pid.as_raw_pid()));
            let called = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
            let program = std::fs::read_link(process.join("exe")).unwrap_or_default();
            is_openssh(called.trim_end())
                || program.file_name().is_some_and(|name| is_openssh(&name.to_string_lossy()))
        })
}

fn is_same(one: impl AsFd, other: impl AsFd) -> bool {
    let place = |fd: &dyn AsFd| fstat(fd.as_fd()).map(|stat| (stat.st_dev, stat.st_ino));
    matches!((place(&one), place(&other)), (Ok(one), Ok(other)) if one == other)
}

/// Whether a program of this name is OpenSSH's client, maybe one of several that are installed.
fn is_openssh(name: &str) -> bool {
    name == "ssh" || name.starts_with("ssh-") || name.starts_with("openssh")
}

/// Passes a connection to ssh as its mm_receive_fd() takes it: with one byte.
pub fn pass(to: impl AsFd, connection: OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let connections = [connection.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&connections));
    sendmsg(to, &[IoSlice::new(&[0])], &mut control, SendFlags::empty())?;
    Ok(())
}

/// A connection to another process of this program, which was called with the same arguments, but for what it is not to
/// do again. It ends with the connection.
pub fn other_process(with_gateway: bool) -> io::Result<OwnedFd> {
    let (ours, its) = UnixStream::pair()?;
    let input: OwnedFd = its.try_clone()?.into();
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments(std::env::args_os().skip(1), with_gateway));
    command.stdin(input).stdout(OwnedFd::from(its));
    // Nobody here outlives it; init reaps it.
    drop(command.spawn()?);
    Ok(ours.into())
}

fn arguments(all: impl Iterator<Item = OsString>, with_gateway: bool) -> Vec<OsString> {
    let mut skips = false;
    let keep = |word: &OsString| {
        let is_value = std::mem::replace(&mut skips, !with_gateway && word == IDENTITY);
        let is_option = skips || word == PASS_FD || !with_gateway && is_assigned(word);
        !is_value && !is_option
    };
    all.filter(keep).collect()
}

fn is_assigned(word: &OsStr) -> bool {
    word.to_string_lossy().strip_prefix(IDENTITY).is_some_and(|rest| rest.starts_with('='))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use super::*;

    #[test]
    fn the_other_process_passes_nothing_and_asks_no_gateway_that_was_in_vain() {
        let told = |words: &str, with_gateway| {
            let all = arguments(words.split(' ').map(Into::into), with_gateway);
            all.join(OsStr::new(" ")).to_string_lossy().into_owned()
        };
        let line = "--context c ssh-proxy --identity /key --pass-fd --gateway-url http://x api";
        assert_eq!(told(line, true), "--context c ssh-proxy --identity /key --gateway-url http://x api");
        assert_eq!(told(line, false), "--context c ssh-proxy --gateway-url http://x api");
        assert_eq!(told("ssh-proxy --identity=/key --pass-fd api", false), "ssh-proxy api");
        assert_eq!(told("ssh-proxy --identity=/key api", true), "ssh-proxy --identity=/key api");
    }

    #[test]
    fn only_openssh_is_passed_a_connection() {
        for (name, expected) in [("ssh", true), ("ssh-9.9", true), ("openssh", true), ("kioworker", false)] {
            assert_eq!(is_openssh(name), expected, "{name}");
        }
        let (ours, _its) = UnixStream::pair().unwrap();
        let (other, _) = UnixStream::pair().unwrap();
        let nothing = File::open("/dev/null").unwrap();
        assert!(is_same(&ours, ours.try_clone().unwrap()) && !is_same(&ours, &other));
        // This process is at the other end of the first.
        for (input, output) in
            [(ours.as_fd(), ours.as_fd()), (ours.as_fd(), other.as_fd()), (nothing.as_fd(), nothing.as_fd())]
        {
            assert!(!is_wanted(input, output));
        }
    }

    #[test]
    fn ssh_gets_the_connection_with_one_byte() {
        let (ours, its) = UnixStream::pair().unwrap();
        let (passed, other_end) = UnixStream::pair().unwrap();
        pass(&its, passed.into()).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [1; 2];
        let got =
            recvmsg(&ours, &mut [io::IoSliceMut::new(&mut byte)], &mut control, RecvFlags::empty()).unwrap();
        assert_eq!((got.bytes, byte[0]), (1, 0));
        let Some(RecvAncillaryMessage::ScmRights(mut all)) = control.drain().next() else {
            panic!("no connection")
        };
        let mut connection = File::from(all.next().unwrap());
        io::Write::write_all(&mut &other_end, b"SSH").unwrap();
        drop(other_end);
        let mut said = String::new();
        connection.read_to_string(&mut said).unwrap();
        assert_eq!(said, "SSH");
    }
}
