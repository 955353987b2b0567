//! What the store's and the model's errors mean to a client.

use pontoon_model::object::BadObject;
use pontoon_model::patch::PatchError;
use pontoon_model::resource::Resource;
use pontoon_model::selector::BadSelector;
use pontoon_model::status::{Cause, Status};
use pontoon_model::validate::{FieldError, Reason, WrongType};
use pontoon_store::{ReadError, WriteError};

const EXPIRED: &str = "The resourceVersion for the provided list is too old.";

pub(crate) fn of_write(error: &WriteError) -> Status {
    match error {
        WriteError::TooLarge { .. } => Status::too_large(error.to_string()),
        WriteError::Timeout { .. } => Status::timeout(error.to_string()),
        WriteError::Overloaded { .. } => Status::too_many_requests(error.to_string(), 1),
        WriteError::NoLeader { .. }
        | WriteError::DiskFull { .. }
        | WriteError::NotInCluster
        | WriteError::Stopped => Status::service_unavailable(error.to_string()),
        _ => Status::internal(error.to_string()),
    }
}

pub(crate) fn of_read(error: &ReadError) -> Status {
    match error {
        ReadError::Compacted { .. } => Status::gone(EXPIRED),
        ReadError::Future { asked, revision } => {
            let message = format!("Too large resource version: {asked}, current: {revision}");
            Status::timeout(message)
        }
        ReadError::TooLarge { .. } => Status::too_large(error.to_string()),
        ReadError::NoLeader { .. } | ReadError::NotInCluster | ReadError::Stopped => {
            Status::service_unavailable(error.to_string())
        }
    }
}

pub(crate) fn of_object(error: &BadObject) -> Status {
    Status::internal(error.to_string())
}

pub(crate) fn of_type(error: &WrongType) -> Status {
    Status::bad_request(error.to_string())
}

pub(crate) fn of_selector(error: &BadSelector) -> Status {
    Status::bad_request(error.to_string())
}

pub(crate) fn of_patch(error: &PatchError) -> Status {
    match error {
        PatchError::Syntax(_) => Status::bad_request(error.to_string()),
        PatchError::Apply(_) => Status::unprocessable(error.to_string()),
        PatchError::TooLarge { .. } => Status::too_large(error.to_string()),
    }
}

/// Nothing, or 422 with a cause for each fault.
pub(crate) fn of_faults(
    resource: &Resource,
    name: &str,
    faults: Vec<FieldError>,
) -> Result<(), Status> {
    if faults.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(resource, name, faults.into_iter().map(Cause::from).collect()))
}

/// One fault that admission found.
pub(crate) fn fault(field: &str, value: &str, why: &str) -> FieldError {
    let detail = format!("Invalid value: {value}: {why}");
    FieldError { field: field.to_owned(), reason: Reason::Invalid, detail }
}
