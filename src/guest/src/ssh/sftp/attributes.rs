//! File attributes.

use rustix::fs::{Gid, Mode, Stat, Timespec, Timestamps, Uid};

use super::packet::{Fields, Malformed, Reply};

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const PERMISSIONS: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

/// Most extended attributes of one request; they are ignored.
const MAX_EXTENDED: u32 = 0x0010_0000;

/// What a request wants to set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub size: Option<u64>,
    pub owner: Option<(u32, u32)>,
    pub permissions: Option<u32>,
    /// Access and modification, in seconds.
    pub times: Option<(u32, u32)>,
}

impl Attributes {
    pub fn parse(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let flags = fields.u32()?;
        let has = |flag| flags & flag != 0;
        let mut attributes = Self::default();
        if has(SIZE) {
            attributes.size = Some(fields.u64()?);
        }
        if has(OWNER) {
            attributes.owner = Some((fields.u32()?, fields.u32()?));
        }
        if has(PERMISSIONS) {
            attributes.permissions = Some(fields.u32()?);
        }
        if has(TIMES) {
            attributes.times = Some((fields.u32()?, fields.u32()?));
        }
        if has(EXTENDED) {
            skip_extended(fields)?;
        }
        Ok(attributes)
    }

    /// The permission bits, or `default`.
    pub fn mode(&self, default: u32) -> Mode {
        mode(self.permissions.unwrap_or(default))
    }

    /// The times as the kernel wants them.
    pub fn timestamps(&self) -> Option<Timestamps> {
        let second = |seconds: u32| Timespec { tv_sec: seconds.into(), tv_nsec: 0 };
        self.times.map(|(accessed, modified)| Timestamps {
            last_access: second(accessed),
            last_modification: second(modified),
        })
    }

    /// User and group as the kernel wants them; `u32::MAX` leaves one as it is, as in chown(2).
    pub fn ids(&self) -> Option<(Option<Uid>, Option<Gid>)> {
        let set = |id: u32| (id != u32::MAX).then_some(id);
        self.owner.map(|(uid, gid)| (set(uid).map(Uid::from_raw), set(gid).map(Gid::from_raw)))
    }
}

/// Permission bits only, without those of the type.
pub fn mode(permissions: u32) -> Mode {
    Mode::from_raw_mode(permissions & 0o7777)
}

fn skip_extended(fields: &mut Fields<'_>) -> Result<(), Malformed> {
    let count = fields.u32()?;
    if count > MAX_EXTENDED {
        return Err(Malformed);
    }
    for _ in 0..count {
        fields.string()?;
        fields.string()?;
    }
    Ok(())
}

/// Puts the attributes of a file into a reply. Times are 32 bits wide in this version of the protocol.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn put(reply: &mut Reply<'_>, stat: &Stat) {
    reply
        .u32(SIZE | OWNER | PERMISSIONS | TIMES)
        .u64(stat.st_size as u64)
        .u32(stat.st_uid)
        .u32(stat.st_gid)
        .u32(stat.st_mode)
        .u32(stat.st_atime as u32)
        .u32(stat.st_mtime as u32);
}

/// Attributes of a name that stands for itself, as in the answer to REALPATH.
pub fn put_none(reply: &mut Reply<'_>) {
    reply.u32(0);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_flags_name_is_set() {
        let mut fields = Fields::new(&[0, 0, 0, 4, 0, 0, 0x81, 0xa4, 9]);
        let attributes = Attributes::parse(&mut fields).unwrap();
        assert_eq!(attributes, Attributes { permissions: Some(0o100_644), ..Attributes::default() });
        assert_eq!(attributes.mode(0), Mode::from_raw_mode(0o644));
        assert_eq!(fields.u8(), Ok(9));
    }

    #[test]
    fn extended_attributes_are_skipped_however_many_are_claimed() {
        let one = [0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, b'n', 0, 0, 0, 1, b'v', 9];
        let mut fields = Fields::new(&one);
        assert_eq!(Attributes::parse(&mut fields), Ok(Attributes::default()));
        assert_eq!(fields.u8(), Ok(9));
        let many = [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(Attributes::parse(&mut Fields::new(&many)), Err(Malformed));
    }
}
