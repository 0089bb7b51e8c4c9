//! The rooms of the product import downwards only, as docs/architecture.md draws it.
//!
//! Every `crate::` and `super::` path in product code counts, in `use` or elsewhere; test modules
//! do not.
#![allow(clippy::unwrap_used, reason = "a test says that it failed by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms from the bottom up. A room may import rooms of the lines before its own, and itself.
const LAYERS: &[&[&str]] = &[
    &["s3", "dev::store"],
    &["http1", "journal::entry"],
    &["outcome"],
    &["config", "metrics", "telemetry", "shutdown"],
    &["auth", "upstream", "tee"],
    &["spans"],
    &["journal"],
    &["proxy", "mirror", "inventory", "events"],
    &["reconcile", "doctor"],
    &["admin"],
    &["app"],
    &["dev"],
    &["cli"],
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The room a path of the crate is in, and its line.
fn room(path: &[String]) -> Option<(&'static str, usize)> {
    let mut best: Option<(&'static str, usize)> = None;
    for (line, rooms) in LAYERS.iter().enumerate() {
        for room in *rooms {
            let inside = room
                .split("::")
                .enumerate()
                .all(|(at, part)| path.get(at).is_some_and(|segment| segment == part));
            if inside && best.is_none_or(|(other, _)| other.len() < room.len()) {
                best = Some((room, line));
            }
        }
    }
    best
}

/// Module path of a source file: `src/journal/entry.rs` is `journal::entry`.
fn module(file: &Path) -> Vec<String> {
    let relative = file.strip_prefix(root().join("src")).unwrap().with_extension("");
    relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect()
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if name != "tests" {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|ending| ending == "rs") && name != "tests.rs" {
            found.push(path);
        }
    }
}

/// Source text without comments and without its test module, which stands last.
fn product_code(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut lines = source.lines().peekable();
    while let Some(line) = lines.next() {
        let inline = lines.peek().is_some_and(|next| next.starts_with("mod tests {"));
        if line == "#[cfg(test)]" && inline {
            break;
        }
        code.push_str(line.split_once("//").map_or(line, |(code, _)| code));
        code.push('\n');
    }
    code
}

/// Paths named after `prefix`, groups in braces taken apart: `a::{b::C, d}` is `a::b::C`, `a::d`.
fn paths_after<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = Vec<String>> + 'a {
    text.match_indices(prefix).flat_map(move |(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        // `xcrate::` and `a::super::` are something else.
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            return Vec::new();
        }
        let mut paths = Vec::new();
        expand(&tokens(text.get(at..).unwrap()), &mut 0, Vec::new(), &mut paths);
        paths
    })
}

/// Identifiers and the signs that matter, up to the end of the path.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut depth = 0usize;
    let mut in_word = false;
    for character in text.chars() {
        if character.is_alphanumeric() || character == '_' {
            if in_word {
                tokens.last_mut().unwrap().push(character);
            } else {
                tokens.push(character.to_string());
            }
            in_word = true;
            continue;
        }
        in_word = false;
        match character {
            ':' | '*' => tokens.push(character.to_string()),
            '{' if tokens.last().is_some_and(|last| last == ":") => {
                depth += 1;
                tokens.push("{".into());
            }
            ',' if depth > 0 => tokens.push(",".into()),
            '}' if depth > 0 => {
                depth -= 1;
                tokens.push("}".into());
                if depth == 0 {
                    break;
                }
            }
            _ if depth > 0 && character.is_whitespace() => {}
            _ => break,
        }
    }
    tokens
}

/// Reads one path with its groups, beginning at `at`.
fn expand(tokens: &[String], at: &mut usize, mut path: Vec<String>, out: &mut Vec<Vec<String>>) {
    while let Some(token) = tokens.get(*at) {
        match token.as_str() {
            ":" => {}
            "{" => {
                while tokens.get(*at).is_some_and(|token| token != "}") {
                    *at += 1;
                    expand(tokens, at, path.clone(), out);
                }
                *at += 1;
                return;
            }
            "," | "}" => break,
            _ => path.push(token.clone()),
        }
        *at += 1;
    }
    out.push(path);
}

/// Paths of the crate that a file names, from the crate's root.
fn imports(module: &[String], code: &str) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> =
        paths_after(code, "crate::").map(|path| path.into_iter().skip(1).collect()).collect();
    for path in paths_after(code, "super::") {
        let up = path.iter().take_while(|part| *part == "super").count();
        let stays = module.len().saturating_sub(up);
        let rest = path.into_iter().skip(up);
        found.push(module.iter().take(stays).cloned().chain(rest).collect());
    }
    found
}

#[test]
fn rooms_import_downwards_only() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for file in files {
        let module = module(&file);
        if module == ["lib"] || module == ["main"] {
            continue;
        }
        let (own, line) =
            room(&module).unwrap_or_else(|| panic!("{} has no place in LAYERS", file.display()));
        let code = product_code(&fs::read_to_string(&file).unwrap());
        for import in imports(&module, &code) {
            let name = import.join("::");
            let Some((other, below)) = room(&import) else {
                wrong.push(format!("{}: crate::{name} is in no room", file.display()));
                continue;
            };
            seen += 1;
            if other != own && below >= line {
                wrong.push(format!(
                    "{own} must not import {other}: {} names {name}",
                    file.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 100, "only {seen} imports were found");
}

#[test]
fn every_room_is_there_and_has_one_place() {
    let mut names: Vec<&str> = LAYERS.iter().flat_map(|rooms| rooms.iter().copied()).collect();
    for name in &names {
        let file = root().join("src").join(name.replace("::", "/")).with_extension("rs");
        assert!(file.exists(), "{}", file.display());
    }
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn the_architecture_page_draws_the_same_order() {
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let drawn: Vec<String> = LAYERS.iter().map(|rooms| rooms.join(" · ")).collect();
    let drawing = format!("```\n{}\n```", drawn.join("\n"));
    assert!(page.contains(&drawing), "docs/architecture.md should have:\n{drawing}");
}

#[test]
fn the_reader_of_imports_sees_groups_comments_and_parents() {
    let code = product_code(
        "use crate::{a::B, c::{d, e::F}};\n// use crate::no;\nfn f() { crate::g::h(); }\n\
         use super::super::i;\nuse super::j;\n#[cfg(test)]\nmod tests {\n    use crate::k;\n}\n",
    );
    let module = ["x".to_owned(), "y".to_owned(), "z".to_owned()];
    let mut names: Vec<String> =
        imports(&module, &code).into_iter().map(|path| path.join("::")).collect();
    names.sort();
    assert_eq!(names, ["a::B", "c::d", "c::e::F", "g::h", "x::i", "x::y::j"]);
}
