//! The strategic merge itself.

use serde_json::{Map, Value};

use super::PatchError;
use super::merge_keys::{Rule, Strategy, root, rule};
use crate::resource::Resource;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

type Object = Map<String, Value>;

pub(super) fn apply(
    resource: &Resource,
    object: &mut Value,
    patch: &Value,
) -> Result<(), PatchError> {
    let Value::Object(patch) = patch else {
        return Err(syntax("a strategic merge patch must be a JSON object"));
    };
    let empty = Object::new();
    let original = object.as_object().unwrap_or(&empty);
    *object = Value::Object(merge_maps(original, patch, root(resource))?);
    Ok(())
}

fn syntax(why: impl Into<String>) -> PatchError {
    PatchError::Syntax(why.into())
}

fn is_directive(key: &str) -> bool {
    key == DIRECTIVE
        || key == RETAIN_KEYS
        || key.starts_with(SET_ORDER)
        || key.starts_with(DELETE_FROM)
}

fn merge_maps(original: &Object, patch: &Object, of: &str) -> Result<Object, PatchError> {
    let mut merged = match directive(patch)? {
        Some("delete") => return Ok(Object::new()),
        // The patch's own content, rid of its directives and nulls.
        Some("replace") => Object::new(),
        _ => original.clone(),
    };
    retain_keys(&mut merged, patch)?;
    for (key, value) in patch.iter().filter(|(key, _)| !is_directive(key)) {
        let rule = rule(of, key);
        match value {
            Value::Null => {
                merged.remove(key);
            }
            Value::Object(value) => {
                let empty = Object::new();
                let old = merged.get(key).and_then(Value::as_object).unwrap_or(&empty);
                let new = merge_maps(old, value, rule.to)?;
                merged.insert(key.clone(), Value::Object(new));
            }
            Value::Array(items) => {
                let old = merged.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let new = merge_lists(old, items, rule, order(patch, key)?)?;
                merged.insert(key.clone(), Value::Array(new));
            }
            value => {
                merged.insert(key.clone(), value.clone());
            }
        }
    }
    lists_without_items(&mut merged, patch, of)?;
    Ok(merged)
}

/// What is said of lists beside the lists: what to delete from them, and their order.
fn lists_without_items(merged: &mut Object, patch: &Object, of: &str) -> Result<(), PatchError> {
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE_FROM) {
            let gone = list(key, value)?;
            if let Some(Value::Array(items)) = merged.get_mut(field) {
                items.retain(|item| !gone.contains(item));
            }
        }
    }
    for (key, value) in patch {
        let Some(field) = key.strip_prefix(SET_ORDER) else { continue };
        if patch.contains_key(field) {
            continue;
        }
        let wanted = list(key, value)?;
        if let Some(Value::Array(items)) = merged.get_mut(field) {
            let present = items.clone();
            *items = ordered(present.clone(), &present, wanted, rule(of, field).strategy);
        }
    }
    Ok(())
}

fn list<'v>(key: &str, value: &'v Value) -> Result<&'v [Value], PatchError> {
    let items = value.as_array().map(Vec::as_slice);
    items.ok_or_else(|| syntax(format!("{key} must be a list")))
}

fn order<'p>(patch: &'p Object, field: &str) -> Result<Option<&'p [Value]>, PatchError> {
    let key = [SET_ORDER, field].concat();
    patch.get(&key).map(|value| list(&key, value)).transpose()
}

fn directive(patch: &Object) -> Result<Option<&str>, PatchError> {
    match patch.get(DIRECTIVE) {
        None => Ok(None),
        Some(Value::String(word)) if ["delete", "replace", "merge"].contains(&word.as_str()) => {
            Ok(Some(word))
        }
        Some(other) => Err(syntax(format!("unknown patch directive {other}"))),
    }
}

/// `$retainKeys`: only these members stay, and the patch may set no others.
fn retain_keys(merged: &mut Object, patch: &Object) -> Result<(), PatchError> {
    let Some(value) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let keys = list(RETAIN_KEYS, value)?;
    let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
    let set = patch.iter().filter(|(k, v)| !is_directive(k) && !v.is_null());
    if let Some((stray, _)) = set.into_iter().find(|(k, _)| !keys.contains(&k.as_str())) {
        let why = format!("{stray} is in the patch but not in its $retainKeys");
        return Err(syntax(why));
    }
    merged.retain(|key, _| keys.contains(&key.as_str()));
    Ok(())
}

fn merge_lists(
    old: &[Value],
    items: &[Value],
    rule: &Rule,
    order: Option<&[Value]>,
) -> Result<Vec<Value>, PatchError> {
    let merged = match rule.strategy {
        Strategy::Plain => return items.iter().map(|item| settled(item, rule.to)).collect(),
        Strategy::Set => {
            let new = items.iter().filter(|item| !old.contains(item));
            old.iter().chain(new).cloned().collect()
        }
        Strategy::By(key) => merge_keyed(old, items, key, rule.to)?,
    };
    let Some(order) = order else {
        // A patch that says nothing of the order means its own: what it adds comes first.
        let own: Vec<Value> =
            items.iter().filter(|item| item.get(DIRECTIVE).is_none()).cloned().collect();
        return Ok(ordered(merged, old, &own, rule.strategy));
    };
    check_order(items, order, rule.strategy)?;
    Ok(ordered(merged, old, order, rule.strategy))
}

/// What a part of a patch is when there is nothing to merge it with.
fn settled(item: &Value, of: &str) -> Result<Value, PatchError> {
    match item {
        Value::Object(map) => merge_maps(&Object::new(), map, of).map(Value::Object),
        other => Ok(other.clone()),
    }
}

fn merge_keyed(
    old: &[Value],
    items: &[Value],
    key: &str,
    of: &str,
) -> Result<Vec<Value>, PatchError> {
    let replaces = |item: &Value| item.get(DIRECTIVE).and_then(Value::as_str) == Some("replace");
    let mut merged = if items.iter().any(replaces) { Vec::new() } else { old.to_vec() };
    for item in items {
        let Value::Object(item) = item else {
            return Err(syntax(format!("{item} is in a list that is merged by {key}")));
        };
        let word = directive(item)?;
        let Some(id) = item.get(key).filter(|id| !id.is_null()) else {
            if word == Some("replace") {
                continue;
            }
            let found = Value::Object(item.clone());
            let why = format!("map: {found} does not contain declared merge key: {key}");
            return Err(syntax(why));
        };
        let at = merged.iter().position(|old| old.get(key) == Some(id));
        match (word, at) {
            (Some("delete"), _) => merged.retain(|old| old.get(key) != Some(id)),
            (_, Some(at)) => {
                let empty = Object::new();
                let old = merged[at].as_object().unwrap_or(&empty);
                merged[at] = Value::Object(merge_maps(old, item, of)?);
            }
            (_, None) => merged.push(Value::Object(merge_maps(&Object::new(), item, of)?)),
        }
    }
    Ok(merged)
}

/// The identity of a list's item: its merge key, or the item itself.
fn identity(item: &Value, strategy: Strategy) -> &Value {
    match strategy {
        Strategy::By(key) => item.get(key).unwrap_or(&Value::Null),
        Strategy::Set | Strategy::Plain => item,
    }
}

fn position(items: &[Value], wanted: &Value, strategy: Strategy) -> Option<usize> {
    items.iter().position(|item| identity(item, strategy) == identity(wanted, strategy))
}

/// Every item that the patch brings must have its place in the order.
fn check_order(items: &[Value], order: &[Value], strategy: Strategy) -> Result<(), PatchError> {
    let stays = |item: &&Value| item.get(DIRECTIVE).is_none();
    let stray = |item: &&Value| position(order, item, strategy).is_none();
    match items.iter().filter(stays).find(stray) {
        None => Ok(()),
        Some(item) => Err(syntax(format!(
            "the order in patch list doesn't match $setElementOrder list: {} is missing there",
            identity(item, strategy)
        ))),
    }
}

/// Puts the items that the order names in that order. The others keep their places relative to
/// those that the list had before.
fn ordered(
    merged: Vec<Value>,
    before: &[Value],
    order: &[Value],
    strategy: Strategy,
) -> Vec<Value> {
    let named = |item: &Value| position(order, item, strategy);
    let (mut told, others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| named(item).is_some());
    told.sort_by_key(|item| named(item));
    let mut result = Vec::with_capacity(told.len() + others.len());
    let (mut told, mut others) = (told.into_iter().peekable(), others.into_iter().peekable());
    loop {
        match (others.peek(), told.peek()) {
            (None, None) => return result,
            (Some(other), Some(next)) => {
                let at = |item: &Value| position(before, item, strategy);
                let first = match (at(other), at(next)) {
                    (Some(other), Some(next)) => other < next,
                    _ => false,
                };
                result.extend(if first { others.next() } else { told.next() });
            }
            (Some(_), None) => result.extend(others.next()),
            (None, Some(_)) => result.extend(told.next()),
        }
    }
}
