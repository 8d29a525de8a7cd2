//! The message of the day.

use std::path::Path;

use crate::users;

/// Largest one that is shown.
const LARGEST: u64 = 64 << 10;

/// What is shown at a login, with a terminal's ends of lines; nothing to whoever has a `.hushlogin`, as with login(1).
pub fn of(home: &str) -> Vec<u8> {
    if Path::new(home).join(".hushlogin").exists() {
        return Vec::new();
    }
    with_returns(&users::small_file(Path::new("/etc/motd"), LARGEST).unwrap_or_default())
}

fn with_returns(text: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(text.len());
    for byte in text {
        if *byte == b'\n' {
            shown.push(b'\r');
        }
        shown.push(*byte);
    }
    shown
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines_end_as_on_a_terminal() {
        assert_eq!(super::with_returns(b"a\nb\n"), b"a\r\nb\r\n");
    }
}
