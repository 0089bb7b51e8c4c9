//! Random input: it may be refused in any way, but never accepted and never with a panic.

use proptest::prelude::*;

use super::*;

/// Text made of the pieces the parsers look for, so that random input gets past their first lines.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "AWS4-HMAC-SHA256 ",
        "Credential=",
        "SignedHeaders=",
        "Signature=",
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&",
        "X-Amz-Credential=",
        "X-Amz-Date=20130524T000000Z&",
        "X-Amz-Expires=60&",
        "X-Amz-SignedHeaders=host&",
        "X-Amz-Signature=0000000000000000000000000000000000000000000000000000000000000000",
        "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "host;x-amz-date",
        ",",
        ";",
        "/",
        "&",
        "=",
        "%",
        "%2",
        "%FF",
        "\u{fc}",
    ]);
    prop::collection::vec(prop_oneof![3 => piece.prop_map(str::to_owned), 1 => ".{0,3}"], 0..12)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn garbage_is_refused_without_a_panic(
        path in pieces(),
        query in prop::option::of(pieces()),
        authorization in prop::option::of(pieces()),
        date in pieces(),
        hash in pieces(),
    ) {
        let mut request = Request::new("GET", "/");
        request.path = path;
        request.query = query;
        let values = [("x-amz-date", Some(date)), ("x-amz-content-sha256", Some(hash))];
        for (name, value) in values.into_iter().chain([("authorization", authorization)]) {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
                request.headers.insert(name, value);
            }
        }
        let error = request.verified(&authenticator(), NOW).unwrap_err();
        prop_assert!((400..=501).contains(&error.status()));
    }

    #[test]
    fn one_changed_character_of_a_signed_request_is_noticed(
        at in any::<prop::sample::Index>(),
        to in "[a-z0-9]",
    ) {
        let request = Request::new("PUT", "/bucket/some/key").header("x-amz-acl", "private").signed();
        let mut other = request.clone();
        let at = at.index(other.path.len() - 1) + 1;
        other.path.replace_range(at..=at, &to);
        prop_assert_eq!(other.code().0 == "ok", other.path == request.path);
    }

    #[test]
    fn random_forms_are_refused_without_a_panic(
        fields in prop::collection::vec((pieces(), pieces()), 0..6),
        policy in pieces(),
    ) {
        let mut fields = fields;
        fields.push(("policy".to_owned(), policy));
        let form = PostForm { bucket: "b", fields: &fields };
        prop_assert!(authenticator().verify_post(&form, at(NOW)).is_err());
    }

    #[test]
    fn random_credential_files_are_refused_without_a_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Credentials::parse(&text).is_err());
    }
}
