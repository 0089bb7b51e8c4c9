//! The statements that find a page of rows: pure text, the same for both databases but for a few
//! words.
//!
//! # Bounds
//! No statement counts or sorts a table, and none skips rows. Each walks the index on `path` from a
//! key onwards over a *window* of so many entries, whatever is looked for among them; a search that
//! finds little goes on with the next window ([`super::walk`]). Rows that the mirror lacks, where
//! they are few, come from the index that holds just them.

use super::{FOUND, Wanted};

/// Rows without the mirror's word up to which they are taken from their own index and sorted.
pub const FEW: u64 = 10_000;

/// Times in `PostgreSQL` as text that says that it is UTC.
const TIME: &str = "YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"";

/// Whose words are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `PostgreSQL`.
    Postgres {
        /// Is the index on `path` in the order of bytes? Elsewhere no range of it holds all keys
        /// with a prefix.
        byte_order: bool,
    },
    /// `SQLite`, where it always is.
    Sqlite,
}

/// A statement and the texts for `$1`, `$2`, ...
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// SQL.
    pub sql: String,
    /// All parameters are texts.
    pub texts: Vec<String>,
}

impl Statement {
    fn new() -> Self {
        Self { sql: String::new(), texts: Vec::new() }
    }

    fn text(&mut self, text: &str) -> String {
        self.texts.push(text.to_owned());
        format!("${}", self.texts.len())
    }
}

/// What is looked for, and where.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// Whose words.
    pub dialect: Dialect,
    /// The table, quoted.
    pub table: &'a str,
    /// Which rows.
    pub wanted: &'a Wanted,
}

impl Search<'_> {
    /// How many rows the mirror lacks, counted up to one more than [`FEW`]: one number.
    pub fn lacking(&self) -> Statement {
        let mut statement = Statement::new();
        statement.sql = format!("SELECT count(*) FROM ({}) AS lacking", self.lacking_ids(FEW + 1));
        statement
    }

    fn lacking_ids(&self, rows: u64) -> String {
        format!("SELECT id FROM {} WHERE NOT is_backed_up LIMIT {rows}", self.table)
    }

    /// The last key of the next window behind `after`, and how many entries the window has.
    pub fn window(&self, after: Option<&str>, rows: u64) -> Statement {
        let mut statement = Statement::new();
        let range = self.range(&mut statement, after);
        statement.sql = format!(
            "SELECT max(path), count(*) FROM
                 (SELECT path FROM {}{range} ORDER BY path LIMIT {rows}) AS window_rows",
            self.table
        );
        statement
    }

    /// The rows that are wanted behind `after`, up to and with the key `last`.
    pub fn rows(&self, after: Option<&str>, last: &str, limit: usize) -> Statement {
        let mut statement = Statement::new();
        let range = self.range(&mut statement, after);
        let last = statement.text(last);
        let and = if range.is_empty() { "WHERE" } else { "AND" };
        let filters = self.filters(&mut statement);
        // Not as the partial index has it, so that the way is the index on path.
        let pending =
            if self.wanted.pending { " AND NOT coalesce(is_backed_up, FALSE)" } else { "" };
        statement.sql = format!(
            "SELECT {} FROM {}{range} {and} path <= {last}{filters}{pending}
             ORDER BY path LIMIT {limit}",
            self.columns(),
            self.table
        );
        statement
    }

    /// The rows that are wanted behind `after`, of few that the mirror lacks.
    pub fn few(&self, after: Option<&str>, limit: usize) -> Statement {
        let mut statement = Statement::new();
        let range = self.range(&mut statement, after);
        let and = if range.is_empty() { "WHERE" } else { "AND" };
        let filters = self.filters(&mut statement);
        statement.sql = format!(
            "SELECT {} FROM {}{range} {and} id IN ({}){filters} ORDER BY path LIMIT {limit}",
            self.columns(),
            self.table,
            self.lacking_ids(FEW + 1)
        );
        statement
    }

    /// One row.
    pub fn row(&self, key: &str) -> Statement {
        let mut statement = Statement::new();
        let key = statement.text(key);
        statement.sql = format!("SELECT {} FROM {} WHERE path = {key}", self.columns(), self.table);
        statement
    }

    /// One range of the index: of two lower bounds a database might start at either.
    fn range(&self, statement: &mut Statement, after: Option<&str>) -> String {
        let prefix = self.wanted.prefix.as_str();
        let ranged = self.is_ranged();
        let mut bounds = Vec::new();
        match after {
            Some(after) if !ranged || after >= prefix => {
                bounds.push(format!("path > {}", statement.text(after)));
            }
            _ if ranged && !prefix.is_empty() => {
                bounds.push(format!("path >= {}", statement.text(prefix)));
            }
            _ => {}
        }
        if let Some(end) = behind(prefix).filter(|_| ranged) {
            bounds.push(format!("path < {}", statement.text(&end)));
        }
        if bounds.is_empty() { String::new() } else { format!(" WHERE {}", bounds.join(" AND ")) }
    }

    /// Is the prefix a range of the index?
    fn is_ranged(&self) -> bool {
        !matches!(self.dialect, Dialect::Postgres { byte_order: false })
    }

    fn filters(&self, statement: &mut Statement) -> String {
        let mut filters = Vec::new();
        if !self.is_ranged() && !self.wanted.prefix.is_empty() {
            let prefix = statement.text(&self.wanted.prefix);
            filters.push(format!(" AND starts_with(path, {prefix})"));
        }
        if !self.wanted.contains.is_empty() {
            let part = statement.text(&self.wanted.contains);
            let find = match self.dialect {
                Dialect::Postgres { .. } => "strpos",
                Dialect::Sqlite => "instr",
            };
            filters.push(format!(" AND {find}(path, {part}) > 0"));
        }
        if !self.wanted.deleted {
            filters.push(" AND NOT coalesce(deleted, FALSE)".to_owned());
        }
        filters.concat()
    }

    fn columns(&self) -> String {
        let of = |name: &&str| match (self.dialect, *name) {
            (
                Dialect::Postgres { .. },
                "last_modified" | "created_at" | "updated_at" | "mirrored_at",
            ) => format!("to_char({name}, '{TIME}') AS {name}"),
            (_, name) => name.to_owned(),
        };
        FOUND.iter().map(of).collect::<Vec<_>>().join(", ")
    }
}

/// The first text in byte order that is behind every text beginning with `prefix`; `None`: there is
/// none.
fn behind(prefix: &str) -> Option<String> {
    let mut letters: Vec<char> = prefix.chars().collect();
    while let Some(last) = letters.pop() {
        // Behind U+D7FF comes U+E000: UTF-8 has no surrogates.
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            letters.push(next);
            return Some(letters.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_a_prefix_is_behind_all_that_begins_with_it() {
        assert_eq!(behind("a/").as_deref(), Some("a0"));
        assert_eq!(behind("\u{D7FF}").as_deref(), Some("\u{E000}"));
        assert_eq!(behind("a\u{10FFFF}").as_deref(), Some("b"));
        assert_eq!(behind("\u{10FFFF}"), None);
        assert_eq!(behind(""), None);
    }

    fn range(dialect: Dialect, prefix: &str, after: Option<&str>) -> (String, Vec<String>) {
        let wanted = Wanted { prefix: prefix.to_owned(), ..Wanted::default() };
        let mut statement = Statement::new();
        let search = Search { dialect, table: "t", wanted: &wanted };
        (search.range(&mut statement, after), statement.texts)
    }

    #[test]
    fn a_range_has_one_lower_bound_and_ends_behind_the_prefix() {
        let sqlite = |prefix, after| range(Dialect::Sqlite, prefix, after).0;
        assert_eq!(sqlite("", None), "");
        assert_eq!(sqlite("", Some("k")), " WHERE path > $1");
        assert_eq!(sqlite("a/", None), " WHERE path >= $1 AND path < $2");
        assert_eq!(sqlite("a/", Some("a/b")), " WHERE path > $1 AND path < $2");
        let before = range(Dialect::Sqlite, "b/", Some("a"));
        assert_eq!(before.1, ["b/", "b0"], "a page that begins before the prefix begins with it");
    }

    #[test]
    fn without_the_order_of_bytes_a_prefix_is_no_range_but_a_filter() {
        let dialect = Dialect::Postgres { byte_order: false };
        assert_eq!(range(dialect, "a/", None).0, "");
        let wanted = Wanted { prefix: "a/".into(), ..Wanted::default() };
        let rows = Search { dialect, table: "t", wanted: &wanted }.rows(None, "z", 5);
        assert!(rows.sql.contains("starts_with(path, $2)"), "{}", rows.sql);
        assert_eq!(rows.texts, ["z", "a/"]);
    }

    #[test]
    fn what_a_person_types_is_a_parameter_and_never_text_of_the_statement() {
        let evil = "'; DROP TABLE t --".to_owned();
        let wanted = Wanted {
            prefix: evil.clone(),
            contains: evil.clone(),
            pending: true,
            ..Wanted::default()
        };
        for dialect in [
            Dialect::Sqlite,
            Dialect::Postgres { byte_order: true },
            Dialect::Postgres { byte_order: false },
        ] {
            let search = Search { dialect, table: "t", wanted: &wanted };
            let all = [
                search.window(Some(&evil), 10),
                search.rows(Some(&evil), &evil, 10),
                search.few(None, 10),
                search.row(&evil),
                search.lacking(),
            ];
            for statement in all {
                assert!(!statement.sql.contains("DROP"), "{}", statement.sql);
                assert!(!statement.sql.contains("OFFSET"), "{}", statement.sql);
                let last = statement.texts.len();
                assert!(!statement.sql.contains(&format!("${}", last + 1)));
                assert!(last == 0 || statement.sql.contains(&format!("${last}")));
            }
        }
    }
}
