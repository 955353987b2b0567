//! Who may use a directory: one daemon, or one command in its place.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::config::lock_in;

/// Keeps others from the directory while the file is open.
///
/// # Errors
/// When another has it, or the file cannot be made.
pub(crate) fn lock(dir: &Path) -> Result<File, TryLockError> {
    let file = File::create(lock_in(dir)).map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}
