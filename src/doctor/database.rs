//! The inventory's database: may tables be made there?

use std::path::Path;

use super::finding::{Finding, Level, Probe, Side};
use crate::inventory::store::{Store, StoreError};

/// Judges a store by making a table and rolling it back.
pub async fn database(store: &Store) -> Finding {
    let outcome = store.rehearse().await;
    store.close().await;
    finding(&outcome, "tables can be made")
}

/// Judges the inventory file in `data_dir`; one that is not there is not made.
pub async fn sqlite(data_dir: &Path) -> Finding {
    let file = data_dir.join("inventory.sqlite");
    if file.exists() {
        return match Store::sqlite_as_it_is(&file).await {
            Ok(store) => database(&store).await,
            Err(error) => finding(&Err(error), ""),
        };
    }
    let directory = data_dir.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("."));
    let probe = directory.join(format!(".{}-{:016x}", super::NAME, fastrand::u64(..)));
    let shown = directory.display();
    let outcome = std::fs::File::create_new(&probe).and_then(|_| std::fs::remove_file(&probe));
    match outcome {
        Ok(()) => finding(&Ok(()), &format!("no file yet; {shown} can be written")),
        Err(error) => finding(&Err(StoreError::Rejected(format!("{shown}: {error}"))), ""),
    }
}

fn finding(outcome: &Result<(), StoreError>, well: &str) -> Finding {
    let finding = |level, what: String| Finding::new(Side::Database, Probe::Tables, level, what);
    match outcome {
        Ok(()) => finding(Level::Ok, well.to_owned()),
        Err(error) => finding(Level::Fails, error.to_string())
            .meaning("rows of the inventory will wait in the journal; mirroring goes on"),
    }
}
