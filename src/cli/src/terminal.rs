//! The local terminal in raw mode, and back.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use spark_client::TtySize;

/// What the terminal was like before; set as long as it is in raw mode.
static ORIGINAL: Mutex<Option<Termios>> = Mutex::new(None);

/// Whether both ends are a terminal.
pub fn is_interactive() -> bool {
    isatty(io::stdin().as_fd()) && isatty(io::stdout().as_fd())
}

/// The size of the terminal, if there is one that has a size.
pub fn size() -> Option<TtySize> {
    let size = tcgetwinsize(io::stdout().as_fd()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some(TtySize { rows: size.ws_row, cols: size.ws_col })
}

/// Keeps the terminal in raw mode until it is dropped.
pub struct RawMode(());

impl RawMode {
    /// Switches the terminal to raw mode: keys, Ctrl-C included, go to the other side.
    pub fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        let original = tcgetattr(stdin.as_fd())?;
        let mut raw = original.clone();
        raw.make_raw();
        *ORIGINAL.lock().unwrap_or_else(PoisonError::into_inner) = Some(original);
        tcsetattr(stdin.as_fd(), OptionalActions::Drain, &raw)?;
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back; does nothing when it is not in raw mode.
fn restore() {
    if let Some(original) = ORIGINAL.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Drain, &original);
    }
}

/// A panic in whichever task leaves a terminal that can be used, and its message readable.
pub fn restore_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        restore();
        before(panic);
    }));
}
