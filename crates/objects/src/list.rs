//! Reading objects: one, or many at one revision.

use bytes::Bytes;
use pontoon_model::object::Object;
use pontoon_model::resource::Resource;
use pontoon_model::status::Status;
use pontoon_store::{Range, RangeResponse, Read, ReadError, prefix_end};

use crate::failure::{of_read, of_selector};
use crate::objects::Objects;
use crate::options::{ListOptions, VersionMatch};
use crate::record::read;
use crate::token::Token;

/// Objects as they were at one revision, in order of namespace and name.
#[derive(Clone, Debug, PartialEq)]
pub struct List {
    pub items: Vec<Object>,
    /// The revision at which all of them were read; a watch from here misses nothing.
    pub revision: u64,
    /// Where the next part begins, if there is one.
    pub continue_token: Option<String>,
    /// How many objects are left, if that is known (without selectors).
    pub remaining: Option<u64>,
}

const TOKEN_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.";

impl Objects {
    /// The newest state of one object (linearizable).
    pub async fn get(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Object, Status> {
        self.load(resource, namespace, name, Read::Linearizable).await
    }

    /// The objects of a resource in one namespace or in all.
    pub async fn list(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<List, Status> {
        if let Some(fields) = &options.fields {
            fields.check(resource).map_err(|e| of_selector(&e))?;
        }
        let mut pages = Pages::new(resource, namespace, options)?;
        let how = self.freshness(options);
        let mut list =
            List { items: Vec::new(), revision: 0, continue_token: None, remaining: None };
        loop {
            let page = self.page(&pages, how, options).await?;
            if list.revision == 0 {
                list.revision = if pages.revision > 0 { pages.revision } else { page.revision };
                pages.revision = list.revision;
            }
            for (i, kv) in page.kvs.iter().enumerate() {
                pages.after = Some(kv.key.clone());
                let object = read(resource, kv)?;
                if selected(&object, options) {
                    list.items.push(object);
                }
                if options.limit > 0 && list.items.len() as u64 >= options.limit {
                    let seen = i as u64 + 1;
                    pages.finish(&mut list, page.count.saturating_sub(seen), options);
                    return Ok(list);
                }
            }
            if !page.more {
                return Ok(list);
            }
        }
    }

    async fn page(
        &self,
        pages: &Pages,
        how: Read,
        options: &ListOptions,
    ) -> Result<RangeResponse, Status> {
        self.store().range(pages.range(), how).await.map_err(|error| match error {
            ReadError::Compacted { .. } if options.continue_token.is_some() => {
                Status::gone(TOKEN_EXPIRED)
            }
            error => of_read(&error),
        })
    }

    fn freshness(&self, options: &ListOptions) -> Read {
        match options.resource_version {
            Some(version) if version <= self.store().revision() => Read::Local,
            _ => Read::Linearizable,
        }
    }
}

/// Whether the object is one of those asked for.
pub(crate) fn selected(object: &Object, options: &ListOptions) -> bool {
    options.labels.as_ref().is_none_or(|s| s.matches(&object.meta.labels))
        && options.fields.as_ref().is_none_or(|s| s.matches(object))
}

/// Where a list is.
struct Pages {
    prefix: String,
    /// The only name wanted, with its namespace.
    only: Option<String>,
    after: Option<Bytes>,
    /// 0 until the first page has been read.
    revision: u64,
    limit: u64,
}

/// How many objects are looked at in one go when few of them may be selected.
const AT_A_TIME: u64 = 500;

impl Pages {
    fn new(
        resource: &'static Resource,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<Self, Status> {
        let prefix = resource.prefix(namespace);
        let name = options.fields.as_ref().and_then(|f| f.required("metadata.name"));
        let placed = !resource.namespaced || namespace.is_some();
        let only = name.filter(|_| placed).map(|name| resource.key(namespace, name));
        let exact = options.resource_version_match == Some(VersionMatch::Exact);
        let revision = options.resource_version.filter(|_| exact).unwrap_or(0);
        let selective = options.labels.is_some() || options.fields.is_some();
        let limit = if selective && options.limit > 0 {
            options.limit.max(AT_A_TIME)
        } else {
            options.limit
        };
        let mut pages = Self { prefix, only, after: None, revision, limit };
        if let Some(token) = &options.continue_token {
            let token = Token::read(token, &pages.prefix)?;
            pages.revision = token.rev;
            pages.after = Some(Bytes::from(token.after));
        }
        Ok(pages)
    }

    fn range(&self) -> Range {
        if let Some(key) = &self.only {
            return Range::key(key.clone()).at(self.revision);
        }
        let first = match &self.after {
            // The smallest key that comes behind.
            Some(after) => Bytes::from([after.as_ref(), &[0]].concat()),
            None => Bytes::from(self.prefix.clone()),
        };
        let end = Some(prefix_end(self.prefix.as_bytes()));
        Range { key: first, end, revision: self.revision, limit: self.limit, ..Range::default() }
    }

    /// The list is full; something may be left.
    fn finish(&self, list: &mut List, left: u64, options: &ListOptions) {
        if left == 0 {
            return;
        }
        let after = self.after.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        list.continue_token = Some(Token::new(self.revision, after.into_owned()).write());
        let all = options.labels.is_none() && options.fields.is_none();
        list.remaining = all.then_some(left);
    }
}
