//! Access control lists, as far as another service can have the same: who in general may read and
//! write. Grants to single accounts mean nothing elsewhere.

use super::xml::{MalformedXml, walk};

/// Groups of Amazon S3, by the end of their URIs.
const EVERYBODY: &str = "/groups/global/AllUsers";
const ACCOUNTS: &str = "/groups/global/AuthenticatedUsers";

/// A list by its short name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CannedAcl {
    /// The owner alone.
    Private,
    /// Everybody reads.
    PublicRead,
    /// Everybody reads and writes.
    PublicReadWrite,
    /// Everybody who has an account reads.
    AuthenticatedRead,
}

impl CannedAcl {
    /// As `x-amz-acl` wants it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::PublicRead => "public-read",
            Self::PublicReadWrite => "public-read-write",
            Self::AuthenticatedRead => "authenticated-read",
        }
    }

    /// From a `GetObjectAcl` answer: the widest short name that grants nothing which the list does
    /// not grant.
    pub fn from_document(xml: &[u8]) -> Result<Self, MalformedXml> {
        let (mut uri, mut permission) = (String::new(), String::new());
        let (mut read, mut write, mut accounts) = (false, false, false);
        let root = walk(xml, |path, text| {
            let is = |path: &[String], tail: &[&str]| {
                let names = ["AccessControlPolicy", "AccessControlList", "Grant"];
                path.iter().map(String::as_str).eq(names.iter().chain(tail).copied())
            };
            if is(path, &["Grantee", "URI"]) {
                text.trim().clone_into(&mut uri);
            } else if is(path, &["Permission"]) {
                text.trim().clone_into(&mut permission);
            } else if is(path, &[]) {
                let reads = matches!(permission.as_str(), "READ" | "FULL_CONTROL");
                let writes = matches!(permission.as_str(), "WRITE" | "FULL_CONTROL");
                read |= reads && uri.ends_with(EVERYBODY);
                write |= writes && uri.ends_with(EVERYBODY);
                accounts |= reads && uri.ends_with(ACCOUNTS);
                uri.clear();
                permission.clear();
            }
            Ok(())
        })?;
        if root != "AccessControlPolicy" {
            return Err(MalformedXml);
        }
        Ok(match (read, write, accounts) {
            (true, true, _) => Self::PublicReadWrite,
            (true, false, _) => Self::PublicRead,
            (false, _, true) => Self::AuthenticatedRead,
            (false, _, false) => Self::Private,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(grants: &[(&str, &str)]) -> String {
        let owner = String::from(
            "<AccessControlPolicy><Owner><ID>o</ID></Owner><AccessControlList><Grant><Grantee>\
             <ID>o</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant>",
        );
        let grants = grants.iter().map(|(group, permission)| {
            format!(
                "<Grant><Grantee><URI>http://acs.amazonaws.com/groups/global/{group}</URI>\
                 </Grantee><Permission>{permission}</Permission></Grant>"
            )
        });
        owner + &grants.collect::<String>() + "</AccessControlList></AccessControlPolicy>"
    }

    #[test]
    fn lists_become_what_they_grant_in_general_and_never_more() {
        use CannedAcl::{AuthenticatedRead, Private, PublicRead, PublicReadWrite};
        for (grants, wanted) in [
            (&[][..], Private),
            (&[("AllUsers", "READ")], PublicRead),
            (&[("AllUsers", "READ"), ("AllUsers", "WRITE")], PublicReadWrite),
            (&[("AllUsers", "FULL_CONTROL")], PublicReadWrite),
            (&[("AllUsers", "WRITE")], Private),
            (&[("AllUsers", "READ_ACP")], Private),
            (&[("AuthenticatedUsers", "READ")], AuthenticatedRead),
            (&[("AuthenticatedUsers", "READ"), ("AllUsers", "READ")], PublicRead),
        ] {
            assert_eq!(CannedAcl::from_document(list(grants).as_bytes()), Ok(wanted), "{grants:?}");
        }
        assert!(CannedAcl::from_document(b"<Error><Code>X</Code></Error>").is_err());
    }
}
