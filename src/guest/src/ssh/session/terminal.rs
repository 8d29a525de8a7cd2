//! Pseudo-terminals.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{Gid, Mode};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, Winsize, tcgetattr, tcsendbreak, tcsetattr, tcsetwinsize};
use sparks_ssh::wire::{Pty, WindowSize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::modes;
use crate::ssh::descriptor;

/// Group that owns terminals, by convention of every distribution.
const TTY_GROUP: u32 = 5;

/// Longest name of a type of terminal.
const LONGEST_TERM: usize = 256;

/// A terminal of a session.
pub struct Terminal {
    master: Rc<AsyncFd<OwnedFd>>,
    path: PathBuf,
    term: OsString,
}

/// The side of the terminal that the program gets.
pub type Slave = OwnedFd;

impl Terminal {
    /// Opens a terminal, with its size and its modes as the client has them. It belongs to the user that this process
    /// is, by what devpts does.
    ///
    /// # Errors
    /// The kernel's, such as that there are no terminals left.
    pub fn open(asked: &Pty) -> io::Result<(Self, Slave)> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = PathBuf::from(OsString::from_vec(ptsname(&master, Vec::new())?.into_bytes()));
        // Not by its path, which in a root of a user may be anything.
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        // Container runtimes mount devpts like this, so that it is so already; else only root may.
        let _ = rustix::fs::fchown(&slave, None, Some(Gid::from_raw(TTY_GROUP)));
        let _ = rustix::fs::fchmod(&slave, Mode::from_raw_mode(0o620));
        resize(&master, asked.size)?;
        let mut termios = tcgetattr(&slave)?;
        modes::apply(&mut termios, &asked.modes);
        tcsetattr(&slave, OptionalActions::Now, &termios)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        let master = Rc::new(descriptor::watched(master, both)?);
        let term = asked.term.get(..LONGEST_TERM.min(asked.term.len())).unwrap_or_default();
        let term: Vec<u8> = term.iter().copied().filter(|byte| *byte != 0).collect();
        Ok((Self { master, path, term: OsString::from_vec(term) }, slave))
    }

    /// Our side.
    pub fn master(&self) -> Rc<AsyncFd<OwnedFd>> {
        self.master.clone()
    }

    /// `TERM` and `SSH_TTY`.
    pub fn environment(&self) -> (&OsStr, &Path) {
        let term = if self.term.is_empty() { OsStr::from_bytes(b"dumb") } else { &self.term };
        (term, &self.path)
    }

    /// Changes the size; the kernel tells whatever runs in the foreground, by SIGWINCH.
    pub fn resize(&self, size: WindowSize) {
        let _ = resize(self.master.get_ref(), size);
    }

    /// Sends a break.
    pub fn send_break(&self) -> bool {
        tcsendbreak(self.master.get_ref()).is_ok()
    }
}

fn resize(master: &impl AsFd, size: WindowSize) -> io::Result<()> {
    let short = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
    let size = Winsize {
        ws_row: short(size.rows),
        ws_col: short(size.columns),
        ws_xpixel: short(size.width),
        ws_ypixel: short(size.height),
    };
    Ok(tcsetwinsize(master, size)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rustix::termios::{InputModes, LocalModes, SpecialCodeIndex, tcgetwinsize};

    fn open(modes: Vec<(u8, u32)>) -> (Terminal, Slave) {
        let size = WindowSize { columns: 121, rows: 43, width: 1210, height: 70000 };
        let (terminal, slave) = Terminal::open(&Pty { term: "xterm".into(), size, modes }).unwrap();
        assert_eq!(terminal.environment().0, "xterm");
        assert!(terminal.environment().1.starts_with("/dev/pts"));
        (terminal, slave)
    }

    #[tokio::test]
    async fn a_terminal_has_its_size_from_the_beginning() {
        let (_terminal, slave) = open(vec![]);
        let size = tcgetwinsize(slave).unwrap();
        assert_eq!((size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel), (43, 121, 1210, u16::MAX));
    }

    #[tokio::test]
    async fn modes_are_set_as_the_client_has_them() {
        let (_terminal, slave) = open(vec![
            (1, 7),
            (2, 255),
            (42, 1),
            (38, 0),
            (53, 0),
            (90, 1),
            (91, 1),
            (128, 38400),
            (129, 115200),
        ]);
        let termios = tcgetattr(slave).unwrap();
        assert_eq!(termios.special_codes[SpecialCodeIndex::VINTR], 7);
        assert_eq!(termios.special_codes[SpecialCodeIndex::VQUIT], 0);
        assert!(termios.input_modes.contains(InputModes::IUTF8));
        assert!(!termios.input_modes.contains(InputModes::IXON));
        assert!(
            !termios.local_modes.contains(LocalModes::ECHO) && termios.local_modes.contains(LocalModes::ISIG)
        );
        assert_eq!((termios.input_speed(), termios.output_speed()), (38400, 115200));
        assert!(termios.control_modes.contains(rustix::termios::ControlModes::CS8));
    }

    #[tokio::test]
    async fn modes_that_nobody_knows_are_left_out() {
        let all = (0..=255).map(|code| (code, u32::MAX)).chain((0..=255).map(|code| (code, 0))).collect();
        open(all);
    }
}
