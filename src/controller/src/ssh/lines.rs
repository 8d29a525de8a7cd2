//! Lines of authorized_keys. What a Secret holds besides public keys must never get into a status, so that only lines
//! that are a public key to the last byte are taken.

use ssh_key::{PublicKey, public::KeyData};

/// Longest line that is looked at.
const MAX_LINE: usize = 16 << 10;

/// The lines with a public key, and how many others there are, comments and empty lines not counted.
pub fn keys(text: &str) -> (Vec<String>, usize) {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (good, bad): (Vec<&str>, Vec<&str>) = lines.partition(|line| is_key(line));
    (good.into_iter().map(str::to_owned).collect(), bad.len())
}

/// Whether the line is `[options] type key [comment]`, as sshd(8) has it.
fn is_key(line: &str) -> bool {
    line.len() <= MAX_LINE
        && !line.chars().any(|c| c.is_control() && c != '\t')
        && (starts_with_key(line) || after_options(line).is_some_and(starts_with_key))
}

fn starts_with_key(text: &str) -> bool {
    let mut fields = text.split_ascii_whitespace();
    let (Some(kind), Some(key)) = (fields.next(), fields.next()) else { return false };
    let parsed = PublicKey::from_openssh(&format!("{kind} {key}"));
    // Types that aren't known could hold anything; a certificate is what a client shows, not what lets it in.
    parsed.is_ok_and(|key| !matches!(key.key_data(), KeyData::Other(_) | KeyData::Certificate(_)))
}

/// What follows the options: they end at the first space outside of quotes.
fn after_options(line: &str) -> Option<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let end = line.find(|c: char| {
        match c {
            '"' if !escaped => quoted = !quoted,
            ' ' | '\t' if !quoted => return true,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        false
    })?;
    line.get(end..).map(str::trim_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
    const SK: &str = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAICFo/k5LU8863u66YC9eUO2170QduohPURkQnbLa/dczAAAABHNzaDo=";

    #[test]
    fn lines_with_options_and_comments_are_taken_as_they_are() {
        let all = [
            ED25519.to_owned(),
            format!("{ED25519} ann@laptop"),
            SK.to_owned(),
            format!(r#"cert-authority,principals="a b" {ED25519}"#),
            format!(r#"command="echo \"a b\"",no-pty	{ED25519} x"#),
        ];
        let text = format!("# people\n\n  {}  \r\n", all.join("\n"));
        assert_eq!(keys(&text), (all.to_vec(), 0));
    }

    #[test]
    fn what_is_no_public_key_is_counted_and_not_taken() {
        for line in [
            "hunter2",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti",
            "x@y AAAAA3hAeQAAAAZzZWNyZXQ=",
            "\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti \u{1b}[2J",
        ] {
            assert_eq!(keys(line), (vec![], 1), "{line}");
        }
    }
}
