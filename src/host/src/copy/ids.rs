//! Undoing the ID mapping of a mount.

/// Where the IDs of a user namespace lie on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMap {
    uids: Vec<Range>,
    gids: Vec<Range>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    inside: u32,
    outside: u32,
    count: u32,
}

impl IdMap {
    /// No mapping.
    pub fn identity() -> Self {
        Self::default()
    }

    /// Reads the contents of `/proc/<pid>/uid_map` and `gid_map`: lines of "inside outside count".
    pub fn parse(uid_map: &str, gid_map: &str) -> Self {
        Self { uids: parse(uid_map), gids: parse(gid_map) }
    }

    /// The user ID inside for one on the host. An ID that the namespace doesn't have was not mapped, and stays.
    pub fn uid(&self, outside: u32) -> u32 {
        unmap(&self.uids, outside)
    }

    /// The group ID inside for one on the host.
    pub fn gid(&self, outside: u32) -> u32 {
        unmap(&self.gids, outside)
    }
}

fn parse(map: &str) -> Vec<Range> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Range { inside: next()?, outside: next()?, count: next()? })
    };
    map.lines().filter_map(line).collect()
}

fn unmap(ranges: &[Range], outside: u32) -> u32 {
    let inside = |range: &Range| {
        let offset = outside.checked_sub(range.outside)?;
        (offset < range.count).then(|| range.inside + offset)
    };
    ranges.iter().find_map(inside).unwrap_or(outside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_the_namespace_is_mapped_back_and_any_other_stays() {
        let map = IdMap::parse("         0     100000      65536\n", "0 200000 10\n10 300000 10\n");
        assert_eq!((map.uid(100_000), map.uid(100_033), map.uid(0), map.uid(165_536)), (0, 33, 0, 165_536));
        assert_eq!((map.gid(200_009), map.gid(300_000), map.gid(200_010)), (9, 10, 200_010));
        assert_eq!(IdMap::identity().uid(100_000), 100_000);
    }
}
