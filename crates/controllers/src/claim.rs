//! Who controls what: adopts what a selector matches and nobody controls, releases what it
//! matches no more.

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use pontoon_scheduler::requirement::{Labels, Matcher};
use std::sync::Arc;

use crate::cache::Cache;
use crate::edit;
use crate::entry::Cached;
use crate::key::Key;
use crate::plan::Plan;

/// An owner that selects what it controls.
pub(crate) struct Claim<'a> {
    pub(crate) owner: &'a Key,
    pub(crate) uid: &'a str,
    pub(crate) selector: Matcher,
    /// An owner on its way out adopts nothing more.
    pub(crate) adopts: bool,
}

impl<'a> Claim<'a> {
    pub(crate) fn new(owner: &'a Key, meta: &'a ObjectMeta, selector: &LabelSelector) -> Self {
        Self {
            owner,
            uid: meta.uid.as_deref().unwrap_or_default(),
            selector: Matcher::from(selector),
            adopts: meta.deletion_timestamp.is_none(),
        }
    }

    /// What the owner controls, or will once the plan is done.
    pub(crate) fn take<K>(&self, cache: &Cache, plan: &mut Plan) -> Vec<Arc<K>>
    where
        K: Cached + Metadata<Ty = ObjectMeta>,
    {
        let mut claimed = Vec::new();
        let none = Labels::new();
        for object in cache.controlled::<K>(self.uid) {
            let meta = object.metadata();
            if self.selector.matches(meta.labels.as_ref().unwrap_or(&none)) {
                claimed.push(Arc::clone(object));
            } else if meta.deletion_timestamp.is_none() {
                self.set_owner::<K>(cache, meta, false, plan);
            }
        }
        if !self.adopts || self.selector.requirements.is_empty() {
            return claimed;
        }
        for object in cache.orphans::<K>(self.owner.namespace()) {
            let meta = object.metadata();
            let matches = self.selector.matches(meta.labels.as_ref().unwrap_or(&none));
            if matches && meta.deletion_timestamp.is_none() {
                self.set_owner::<K>(cache, meta, true, plan);
                claimed.push(Arc::clone(object));
            }
        }
        claimed
    }

    fn set_owner<K: Cached>(&self, cache: &Cache, meta: &ObjectMeta, mine: bool, plan: &mut Plan) {
        let name = meta.name.as_deref().unwrap_or_default();
        let key = Key::new(K::RESOURCE, meta.namespace.as_deref(), name);
        let Some(entry) = cache.entry(&key) else { return };
        let mut owners = meta.owner_references.clone().unwrap_or_default();
        owners.retain(|o| o.uid != self.uid);
        if mine {
            owners.push(edit::controller_reference(self.owner, self.uid));
        }
        plan.push(edit::owners(entry, &key, &owners));
    }
}
