//! The line that `ls -l` would print for a file, which clients show as it is.

use std::io::Write;

use rustix::fs::Stat;

use super::people::People;

/// Half a year: what is older, or in the future, is shown with its year.
const RECENT: i64 = 365 * 24 * 60 * 60 / 2;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Local time, to the minute.
#[derive(Clone, Copy, Debug)]
struct Local {
    year: i64,
    month: usize,
    day: i32,
    hour: i32,
    minute: i32,
}

/// `drwxr-xr-x    5 markus   markus       1024 Jan 13 18:39 .ssh`
pub fn of(name: &[u8], stat: &Stat, people: &People, now: i64) -> Vec<u8> {
    let mut line = Vec::with_capacity(64 + name.len());
    line.extend_from_slice(&mode(stat.st_mode));
    // Writing into a vector cannot fail.
    let _ = write!(line, "  {:>3} ", stat.st_nlink);
    put_name(&mut line, people.user(stat.st_uid), stat.st_uid);
    put_name(&mut line, people.group(stat.st_gid), stat.st_gid);
    let _ = write!(line, "{:>8} {} ", stat.st_size, date(stat.st_mtime, now));
    line.extend_from_slice(name);
    line
}

fn put_name(line: &mut Vec<u8>, name: Option<&[u8]>, id: u32) {
    let number = id.to_string();
    let name = name.unwrap_or(number.as_bytes());
    line.extend_from_slice(name);
    line.resize(line.len() + 8_usize.saturating_sub(name.len()) + 1, b' ');
}

/// Type and permissions, as strmode(3).
fn mode(mode: u32) -> [u8; 10] {
    let bit = |bit: u32, letter: u8| if mode & bit != 0 { letter } else { b'-' };
    let execute = |x: u32, special: u32, both: u8| match (mode & special != 0, mode & x != 0) {
        (true, true) => both,
        (true, false) => both.to_ascii_uppercase(),
        (false, true) => b'x',
        (false, false) => b'-',
    };
    let kind = match mode & libc::S_IFMT {
        libc::S_IFREG => b'-',
        libc::S_IFDIR => b'd',
        libc::S_IFLNK => b'l',
        libc::S_IFCHR => b'c',
        libc::S_IFBLK => b'b',
        libc::S_IFIFO => b'p',
        libc::S_IFSOCK => b's',
        _ => b'?',
    };
    [
        kind,
        bit(0o400, b'r'),
        bit(0o200, b'w'),
        execute(0o100, 0o4000, b's'),
        bit(0o040, b'r'),
        bit(0o020, b'w'),
        execute(0o010, 0o2000, b's'),
        bit(0o004, b'r'),
        bit(0o002, b'w'),
        execute(0o001, 0o1000, b't'),
    ]
}

fn date(seconds: i64, now: i64) -> String {
    let Some(local) = local(seconds) else { return String::new() };
    let Local { year, month, day, hour, minute } = local;
    let month = MONTHS.get(month).copied().unwrap_or("???");
    if now - RECENT < seconds && now >= seconds {
        format!("{month} {day:>2} {hour:02}:{minute:02}")
    } else {
        format!("{month} {day:>2}  {year}")
    }
}

/// In the Spark's time zone, or in that of `TZ`.
fn local(seconds: i64) -> Option<Local> {
    // SAFETY: an all-zero tm is a valid value of that plain C structure.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both point to valid values for the time of the call. The environment that it reads is not changed
    // meanwhile: `sftp` has a single thread.
    let converted = unsafe { libc::localtime_r(&raw const seconds, &raw mut tm) };
    (!converted.is_null()).then(|| Local {
        year: i64::from(tm.tm_year) + 1900,
        month: usize::try_from(tm.tm_mon).unwrap_or(usize::MAX),
        day: tm.tm_mday,
        hour: tm.tm_hour,
        minute: tm.tm_min,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_as_those_of_ls() {
        for (bits, text) in [
            (0o100_644, "-rw-r--r--"),
            (0o040_755, "drwxr-xr-x"),
            (0o120_777, "lrwxrwxrwx"),
            (0o041_777, "drwxrwxrwt"),
            (0o104_755, "-rwsr-xr-x"),
            (0o102_644, "-rw-r-Sr--"),
            (0o010_600, "prw-------"),
        ] {
            assert_eq!(std::str::from_utf8(&mode(bits)).unwrap(), text);
        }
    }

    #[test]
    fn a_recent_file_has_a_time_and_others_have_a_year() {
        let now = 1_760_000_000;
        assert!(date(now - 60, now).contains(':'));
        assert!(date(now - 2 * RECENT, now).ends_with("  2024"));
        assert!(date(now + 86_400 * 365, now).ends_with("  2026"));
        assert_eq!(date(i64::MAX, now), "");
    }

    #[test]
    fn a_line_keeps_the_bytes_of_a_name_that_is_no_text() {
        let scratch = tempfile::tempdir().unwrap();
        rustix::fs::chmod(scratch.path(), 0o700.into()).unwrap();
        let stat = rustix::fs::stat(scratch.path()).unwrap();
        let line = of(b"a\xff", &stat, &People::default(), 0);
        assert!(line.starts_with(b"drwx------  "));
        assert!(line.ends_with(b" a\xff"));
    }
}
