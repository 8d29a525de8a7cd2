//! Names of signals: RFC 4254, section 6.10.

use rustix::process::Signal;

/// Those that the protocol names.
const NAMED: [(&str, Signal); 13] = [
    ("ABRT", Signal::ABORT),
    ("ALRM", Signal::ALARM),
    ("FPE", Signal::FPE),
    ("HUP", Signal::HUP),
    ("ILL", Signal::ILL),
    ("INT", Signal::INT),
    ("KILL", Signal::KILL),
    ("PIPE", Signal::PIPE),
    ("QUIT", Signal::QUIT),
    ("SEGV", Signal::SEGV),
    ("TERM", Signal::TERM),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
];

/// The signal that a client names.
pub fn by_name(name: &[u8]) -> Option<Signal> {
    NAMED.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, signal)| *signal)
}

/// The name of the signal that ended a program; for those that the protocol doesn't name, OpenSSH's placeholder.
pub fn name(number: i32) -> &'static str {
    NAMED.iter().find(|(_, signal)| signal.as_raw() == number).map_or("SIG@openssh.com", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        assert_eq!(by_name(b"TERM"), Some(Signal::TERM));
        assert_eq!(by_name(b"SIGTERM"), None);
        assert_eq!(name(9), "KILL");
        assert_eq!(name(7), "SIG@openssh.com");
    }
}
