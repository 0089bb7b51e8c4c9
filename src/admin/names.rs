//! By which names the admin port is known.
//!
//! A page of somebody else's may have the address of its own name changed to that of this service
//! (DNS rebinding): to the browser both are one origin then, and nothing but the name in `Host`
//! tells them apart. So whoever comes by a name that anybody on the internet could own is not
//! believed to be at home. Pure.

use std::net::IpAddr;

/// Names below these are nobody's on the internet (RFC 6761, 6762, 8375; ICANN's `internal`), or of a
/// Kubernetes cluster.
const LOCAL: [&str; 7] =
    ["localhost", "local", "internal", "home.arpa", "lan", "svc", "cluster.local"];

/// Is this `Host` a name of ours: an address, a name without a dot, a local name, or one of `hosts`,
/// which are lower-case?
pub(super) fn is_own(host: &str, hosts: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    if bare.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let below = |suffix: &str| {
        name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    !name.contains('.') || LOCAL.iter().any(|suffix| below(suffix)) || hosts.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_that_nobody_else_can_own_are_ours() {
        for host in [
            "127.0.0.1:9090",
            "10.1.2.3",
            "[::1]:9090",
            "[fd00::7]",
            "localhost:9090",
            "LOCALHOST",
            "a.localhost",
            "s3-mirror",
            "s3-mirror:9090",
            "s3-mirror-admin.prod.svc",
            "s3-mirror-0.s3-mirror.prod.svc.cluster.local:9090",
            "s3-mirror-admin.prod.svc.cluster.local.",
            "nas.lan",
            "mirror.corp.internal",
            "",
        ] {
            assert!(is_own(host, &[]), "{host}");
        }
    }

    #[test]
    fn a_name_of_the_internet_is_ours_only_if_the_settings_say_so() {
        let own = ["mirror.example.com".to_owned()];
        for host in ["mirror.example.com", "Mirror.Example.com:443", "mirror.example.com."] {
            assert!(!is_own(host, &[]), "{host}");
            assert!(is_own(host, &own), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "mirror.example.com.evil.example",
            "evil-mirror.example.com",
            "s3-mirror.dev",
            "svc.evil.example",
            "evillocalhost.com",
            "notlocal.xlocal",
        ] {
            assert!(!is_own(host, &own), "{host}");
        }
    }
}
