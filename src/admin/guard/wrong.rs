//! Wrong tokens, counted by address. Who has sent too many is not listened to for a while.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

/// Wrong tokens from one address in one [`WINDOW`].
pub(super) const WRONG_MAX: u32 = 10;
/// How long wrong tokens are remembered.
pub(super) const WINDOW: Duration = Duration::from_mins(1);
/// Addresses with wrong tokens that are told apart; more share one count.
const ADDRESSES_MAX: usize = 1024;

/// One address, or the /64 that one host of IPv6 has to itself.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Wrong tokens by address.
#[derive(Default)]
pub(super) struct Wrong {
    counts: HashMap<IpAddr, (u32, Instant)>,
}

impl Wrong {
    /// The address that stands for all that have no room of their own.
    const OTHERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

    fn place(&self, peer: IpAddr) -> IpAddr {
        let known = self.counts.contains_key(&peer) || self.counts.len() < ADDRESSES_MAX;
        if known { peer } else { Self::OTHERS }
    }

    /// How long the address is not listened to.
    pub(super) fn closed(&mut self, peer: IpAddr, now: Instant) -> Option<Duration> {
        self.counts.retain(|_, (_, until)| *until > now);
        let (count, until) = self.counts.get(&self.place(peer))?;
        (*count >= WRONG_MAX).then(|| *until - now)
    }

    pub(super) fn count(&mut self, peer: IpAddr, now: Instant) {
        let place = self.place(peer);
        let (count, _) = self.counts.entry(place).or_insert((0, now + WINDOW));
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_addresses_is_bounded_and_the_rest_share_one_count() {
        let (mut wrong, now) = (Wrong::default(), Instant::now());
        for number in 0..3000_u32 {
            let peer = IpAddr::from(number.to_be_bytes());
            wrong.count(peer, now);
        }
        assert!(wrong.counts.len() <= ADDRESSES_MAX + 1);
        assert!(wrong.closed([200, 0, 0, 1].into(), now).is_some());
    }

    #[test]
    fn one_host_of_ipv6_counts_once_however_many_addresses_it_has() {
        let network = |text: &str| super::network(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:10.0.0.1"), IpAddr::from([10, 0, 0, 1]));
    }
}
