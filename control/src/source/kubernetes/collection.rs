//! All objects of one kind, kept by the events of a watch.
//!
//! A watch begins with the whole list, and begins anew whenever the server no longer knows where it was. Until the list
//! is complete, the objects of before stay; then it replaces them in one step.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use kube::runtime::watcher::Event;

use super::resource::{Kind, Slim};
use crate::objects::ObjectMap;

/// Objects by name.
pub(super) struct Collection<T: Kind> {
    current: Option<ObjectMap<T::Name, T>>,
    listed: BTreeMap<T::Name, Arc<T>>,
}

impl<T: Kind> Default for Collection<T> {
    fn default() -> Self {
        Self { current: None, listed: BTreeMap::new() }
    }
}

impl<T: Kind> Collection<T> {
    /// The objects; `None` before the first list was complete.
    pub(super) fn complete(&self) -> Option<&ObjectMap<T::Name, T>> {
        self.current.as_ref()
    }

    /// Whether anything is different now.
    pub(super) fn take(&mut self, event: Event<Slim<T>>) -> bool {
        match event {
            Event::Init => {
                self.listed.clear();
                false
            }
            Event::InitApply(Slim { object, .. }) => {
                self.listed.insert(object.name(), Arc::new(object));
                false
            }
            Event::InitDone => self.replace(),
            Event::Apply(Slim { object, .. }) => {
                let current = self.current.get_or_insert_with(ObjectMap::new);
                let name = object.name();
                let differs = current.get(&name).is_none_or(|known| **known != object);
                if differs {
                    current.insert(name, Arc::new(object));
                }
                differs
            }
            Event::Delete(Slim { object, .. }) => {
                self.current.as_mut().is_some_and(|current| current.remove(&object.name()).is_some())
            }
        }
    }

    /// Puts the list in force. What is equal stays as it is, so that the difference of two sets is found quickly.
    fn replace(&mut self) -> bool {
        let listed = mem::take(&mut self.listed);
        let Some(current) = &mut self.current else {
            self.current = Some(listed.into_iter().collect());
            return true;
        };
        let gone: Vec<_> = current.keys().filter(|name| !listed.contains_key(name)).cloned().collect();
        let mut differs = !gone.is_empty();
        for name in gone {
            current.remove(&name);
        }
        for (name, object) in listed {
            if current.get(&name) != Some(&object) {
                current.insert(name, object);
                differs = true;
            }
        }
        differs
    }
}
