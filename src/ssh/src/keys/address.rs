//! Lists of addresses: `from=` and `source-address`.

use std::net::IpAddr;

use ipnet::IpNet;

/// A list of patterns (ssh_config(5), PATTERNS) and networks (`10.0.0.0/8`); `!` before one refuses what it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPatterns(Vec<(bool, Pattern)>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Network(IpNet),
    Glob(String),
}

impl AddressPatterns {
    /// Reads a list that is separated by commas.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let patterns = text.split(',').map(str::trim).map(|item| {
            let (negated, pattern) = item.strip_prefix('!').map_or((false, item), |rest| (true, rest));
            Some((negated, Pattern::parse(pattern)?))
        });
        patterns.collect::<Option<Vec<_>>>().map(Self)
    }

    /// Whether one matches and none that is negated does.
    #[must_use]
    pub fn matches(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        let hits = |wanted: bool| self.0.iter().any(|(negated, p)| *negated == wanted && p.matches(peer));
        hits(false) && !hits(true)
    }

    /// Whether all are networks or addresses, as a certificate must have them.
    pub(super) fn are_networks(&self) -> bool {
        self.0.iter().all(|(negated, pattern)| !negated && matches!(pattern, Pattern::Network(_)))
    }
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Network(IpNet::from(address)));
        }
        if text.contains('/') {
            return text.parse().ok().map(Self::Network);
        }
        Some(Self::Glob(text.to_owned()))
    }

    fn matches(&self, peer: IpAddr) -> bool {
        match self {
            Self::Network(network) => network.contains(&peer),
            Self::Glob(glob) => matches_glob(glob.as_bytes(), peer.to_string().as_bytes()),
        }
    }
}

/// `*` and `?`. Takes no more than the product of the lengths.
pub(super) fn matches_glob(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some(b'*') => {
                retry = Some((g + 1, t));
                g += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                g += 1;
                t += 1;
            }
            _ => match &mut retry {
                Some((after, from)) => {
                    *from += 1;
                    (g, t) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|&c| c == b'*')
}
