//! Who a program runs as: names of an image's `USER` looked up in its own `/etc/passwd` and `/etc/group`.

use crate::error::Refusal;
use crate::spec::User;

/// A user in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) home: Option<String>,
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// `passwd` and `group` are the files' texts; empty if there is none.
pub(super) fn resolve(user: &User, passwd: &str, group: &str) -> Result<Account, Refusal> {
    match user {
        User::Ids { uid, gid, groups } => {
            let home = entries(passwd).find(|e| e.uid == *uid).map(|e| e.home.to_owned());
            Ok(Account { uid: *uid, gid: *gid, groups: groups.clone(), home })
        }
        User::Named { user, groups } => named(user, groups, passwd, group),
    }
}

fn named(text: &str, more: &[u32], passwd: &str, group: &str) -> Result<Account, Refusal> {
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    // A name wins over a number that looks the same, as in Docker.
    let entry = entries(passwd)
        .find(|e| e.name == user)
        .or_else(|| entries(passwd).find(|e| user.parse() == Ok(e.uid)));
    let uid = match (&entry, user.parse()) {
        (Some(entry), _) => entry.uid,
        (None, Ok(uid)) => uid,
        (None, Err(_)) => return Err(Refusal::NoSuchUser(text.to_owned())),
    };
    let mut groups = Vec::new();
    let gid = match wanted_group {
        Some(name) => group_id(name, group).ok_or_else(|| Refusal::NoSuchUser(text.to_owned()))?,
        None => {
            if let Some(entry) = &entry {
                groups = memberships(entry.name, group);
            }
            entry.as_ref().map_or(0, |entry| entry.gid)
        }
    };
    groups.extend(more);
    Ok(Account { uid, gid, groups, home: entry.map(|entry| entry.home.to_owned()) })
}

/// name:password:uid:gid:comment:home:shell
fn entries(passwd: &str) -> impl Iterator<Item = Entry<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Entry { name, uid, gid, home: fields.nth(1).unwrap_or("/") })
    })
}

/// name:password:gid:member,member
fn group_entries(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

fn group_id(name: &str, group: &str) -> Option<u32> {
    group_entries(group)
        .find(|(entry, ..)| *entry == name)
        .map(|(_, gid, _)| gid)
        .or(name.parse().ok())
}

fn memberships(user: &str, group: &str) -> Vec<u32> {
    group_entries(group)
        .filter(|(_, _, members)| members.split(',').any(|member| member == user))
        .map(|(_, gid, _)| gid)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/srv/web:/bin/false\nbroken\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:\nlogs:x:200:other,web\n";

    type Wanted<'a> = Result<(u32, u32, &'a [u32], Option<&'a str>), ()>;

    fn check(user: &str, wanted: Wanted<'_>) {
        let named = User::Named { user: user.into(), groups: vec![] };
        let found = resolve(&named, PASSWD, GROUP);
        let found = found.as_ref().map_err(|_| ());
        let found = found.map(|a| (a.uid, a.gid, a.groups.as_slice(), a.home.as_deref()));
        assert_eq!(found, wanted, "{user:?}");
    }

    #[test]
    fn users_are_looked_up_as_docker_does() {
        check("", Ok((0, 0, &[], Some("/root"))));
        check("web", Ok((101, 102, &[200], Some("/srv/web"))));
        check("101", Ok((101, 102, &[200], Some("/srv/web"))));
        check("web:root", Ok((101, 0, &[], Some("/srv/web"))));
        check("web:7", Ok((101, 7, &[], Some("/srv/web"))));
        check("5000", Ok((5000, 0, &[], None)));
        check("5000:6000", Ok((5000, 6000, &[], None)));
        check("nobody", Err(()));
        check("web:nogroup", Err(()));
        check("-1", Err(()));
    }

    #[test]
    fn ids_are_taken_as_they_are() {
        let ids = User::Ids { uid: 101, gid: 9, groups: vec![4] };
        let account = resolve(&ids, PASSWD, GROUP).unwrap();
        assert_eq!((account.gid, account.groups.as_slice()), (9, [4].as_slice()));
        assert_eq!(account.home.as_deref(), Some("/srv/web"));
    }
}
