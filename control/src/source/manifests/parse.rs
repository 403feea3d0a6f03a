//! Manifests: YAML documents (JSON is YAML too) to objects.
//!
//! A document is read into its own type straight from the parser, so that an error knows line and field, also inside a
//! List. What a document is stands in two lines at its margin in all that programs write, and one pass is enough; where
//! it does not, a first pass reads only that.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::objects::{
    EndpointSlice, Metadata, Namespace, Node, ObjectMap, Objects, Pod, Service, ServiceCidr,
};

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The YAML, or a field in it, is wrong.
    #[error("{}: {source}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Field, reason, line and column.
        source: serde_norway::Error,
    },
    /// Not text.
    #[error("{}: is not UTF-8 text from byte {valid} on", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Bytes that are text.
        valid: usize,
    },
    /// YAML, but no Kubernetes object.
    #[error("{}: the document at line {line} has no apiVersion and kind; only Kubernetes objects belong here", path.display())]
    NoKind {
        /// The file.
        path: PathBuf,
        /// Where the document begins, counted from 1.
        line: usize,
    },
}

/// What a file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// In the file's order.
    pub objects: Vec<Object>,
    /// Kinds the agent has no use for, as "apiVersion/kind".
    pub skipped: BTreeSet<String>,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// core/v1.
    Node(Arc<Node>),
    /// core/v1.
    Service(Arc<Service>),
    /// discovery.k8s.io/v1.
    EndpointSlice(Arc<EndpointSlice>),
    /// networking.k8s.io/v1.
    ServiceCidr(Arc<ServiceCidr>),
    /// core/v1.
    Namespace(Arc<Namespace>),
    /// core/v1.
    Pod(Arc<Pod>),
}

impl Object {
    /// What tells it from all others.
    pub(super) fn key(&self) -> Key {
        let namespaced = |kind, metadata: &Metadata| Key(kind, metadata.object_name().to_string());
        match self {
            Self::Node(n) => Key("Node", n.metadata.name.clone()),
            Self::Service(s) => namespaced("Service", &s.metadata),
            Self::EndpointSlice(s) => namespaced("EndpointSlice", &s.metadata),
            Self::ServiceCidr(s) => Key("ServiceCIDR", s.metadata.name.clone()),
            Self::Namespace(n) => Key("Namespace", n.metadata.name.clone()),
            Self::Pod(p) => namespaced("Pod", &p.metadata),
        }
    }

    /// Remembers where it stands; one that others have too becomes another object.
    pub(super) fn stands_at(&mut self, place: &Arc<str>) {
        let metadata = match self {
            Self::Node(o) => &mut Arc::make_mut(o).metadata,
            Self::Service(o) => &mut Arc::make_mut(o).metadata,
            Self::EndpointSlice(o) => &mut Arc::make_mut(o).metadata,
            Self::ServiceCidr(o) => &mut Arc::make_mut(o).metadata,
            Self::Namespace(o) => &mut Arc::make_mut(o).metadata,
            Self::Pod(o) => &mut Arc::make_mut(o).metadata,
        };
        metadata.origin = Some(Arc::clone(place));
    }

    /// Puts it where it belongs, in place of one of the same name. The difference between two sets is found by their
    /// parts in common, so an object that is there already stays where it is.
    pub(super) fn put(&self, objects: &mut Objects) {
        match self {
            Self::Node(n) => put(&mut objects.nodes, n.metadata.name.clone(), n),
            Self::Service(s) => put(&mut objects.services, s.metadata.object_name(), s),
            Self::EndpointSlice(s) => put(&mut objects.slices, s.metadata.object_name(), s),
            Self::ServiceCidr(s) => put(&mut objects.service_cidrs, s.metadata.name.clone(), s),
            Self::Namespace(n) => put(&mut objects.namespaces, n.metadata.name.clone(), n),
            Self::Pod(p) => put(&mut objects.pods, p.metadata.object_name(), p),
        }
    }
}

/// Kind and name of an object; shown as "Service default/web".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(pub(super) &'static str, pub(super) String);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

fn put<K: Ord + Clone, V>(map: &mut ObjectMap<K, V>, name: K, value: &Arc<V>) {
    if !map.get(&name).is_some_and(|old| Arc::ptr_eq(old, value)) {
        map.insert(name, Arc::clone(value));
    }
}

impl Parsed {
    /// The objects by name; of two with one name, the later.
    pub fn objects(&self) -> Objects {
        let mut objects = Objects::default();
        self.objects.iter().for_each(|o| o.put(&mut objects));
        objects
    }
}

/// Reads the text of the file at `path`.
///
/// # Errors
/// [`ManifestError`] names file, field, line and column of the first fault.
pub fn parse(path: &Path, text: &[u8]) -> Result<Parsed, ManifestError> {
    let mut parsed = Parsed::default();
    for document in documents(text_of(path, text)?) {
        let Parsed { mut objects, skipped } = document.parse(path)?;
        parsed.objects.append(&mut objects);
        parsed.skipped.extend(skipped);
    }
    Ok(parsed)
}

/// The file's content as text.
pub(super) fn text_of<'a>(path: &Path, content: &'a [u8]) -> Result<&'a str, ManifestError> {
    let valid = |e: std::str::Utf8Error| ManifestError::NotText { path: path.into(), valid: e.valid_up_to() };
    std::str::from_utf8(content).map_err(valid)
}

/// A piece of a file that can be read by itself: mostly one YAML document.
#[derive(Clone, Copy, Debug)]
pub(super) struct Document<'a> {
    pub(super) text: &'a str,
    /// Lines of the file before it.
    lines_before: usize,
}

/// Cuts a file into its documents. One with directives or document ends, which hardly any has, stays in one piece.
pub(super) fn documents(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut begin, mut offset, mut lines_before) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if line.starts_with('%') || line.starts_with("...") {
            return vec![Document { text, lines_before: 0 }];
        }
        let marks = line.strip_prefix("---").is_some_and(|rest| rest.trim_start() != rest || rest.is_empty());
        if marks && offset > begin {
            documents.push(Document { text: &text[begin..offset], lines_before });
            (begin, lines_before) = (offset, number);
        }
        offset += line.len();
    }
    documents.push(Document { text: &text[begin..], lines_before });
    documents
}

impl Document<'_> {
    #[cfg(test)]
    pub(super) fn lines_before(&self) -> usize {
        self.lines_before
    }

    /// Reads the objects of the document at `path`.
    pub(super) fn parse(self, path: &Path) -> Result<Parsed, ManifestError> {
        let mut parsed = read(path, self.text, self.lines_before).map_err(|error| {
            // Once more with the lines before it, so that the error tells the line of the file.
            let in_place = "\n".repeat(self.lines_before) + self.text;
            read(path, &in_place, self.lines_before).err().unwrap_or(error)
        })?;
        let place = self.place(path);
        parsed.objects.iter_mut().for_each(|object| object.stands_at(&place));
        Ok(parsed)
    }

    /// The line of the file with its first word, counted from 1.
    pub(super) fn line(self) -> usize {
        let says_nothing = |line: &&str| line.is_empty() || line.starts_with('#') || line.starts_with("---");
        self.lines_before + self.text.lines().map(str::trim).take_while(says_nothing).count() + 1
    }

    /// Where it stands, for people: "web.yaml:12".
    pub(super) fn place(self, path: &Path) -> Arc<str> {
        format!("{}:{}", path.file_name().unwrap_or_default().to_string_lossy(), self.line()).into()
    }
}

fn read(path: &Path, text: &str, lines_before: usize) -> Result<Parsed, ManifestError> {
    let yaml = |source| ManifestError::Yaml { path: path.into(), source };
    let mut parsed = Parsed::default();
    if let Some(shape) = Shape::at_margin(text) {
        let document = serde_norway::Deserializer::from_str(text);
        ObjectSeed { shape: &shape, objects: &mut parsed.objects }.deserialize(document).map_err(yaml)?;
        return Ok(parsed);
    }
    let mut shapes = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        let header = Option::<Header>::deserialize(document).map_err(yaml)?;
        let no_kind = || ManifestError::NoKind { path: path.into(), line: lines_before + 1 };
        let shape = header.map(|h| h.shape(&mut parsed.skipped).ok_or_else(no_kind));
        shapes.push(shape.transpose()?.unwrap_or(Shape::Nothing));
    }
    for (document, shape) in serde_norway::Deserializer::from_str(text).zip(&shapes) {
        ObjectSeed { shape, objects: &mut parsed.objects }.deserialize(document).map_err(yaml)?;
    }
    Ok(parsed)
}

/// What a document is.
enum Shape {
    Node,
    Service,
    EndpointSlice,
    ServiceCidr,
    Namespace,
    Pod,
    List(Vec<Shape>),
    Nothing,
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "apiVersion")]
    api_version: Option<String>,
    kind: Option<String>,
    items: Option<Items>,
}

/// Other kinds may have an `items` that is no list of objects.
#[derive(Deserialize)]
#[serde(untagged)]
enum Items {
    Objects(Vec<Header>),
    Other(IgnoredAny),
}

impl Shape {
    /// One of the kinds of use, if two plain lines at the text's margin say so.
    fn at_margin(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let mut values = text.lines().filter_map(|line| line.strip_prefix(key));
            values.next().filter(|_| values.next().is_none()).map(str::trim)
        };
        Self::of_kind(value("apiVersion:")?, value("kind:")?)
    }

    fn of_kind(api_version: &str, kind: &str) -> Option<Self> {
        match (api_version, kind) {
            ("v1", "Node") => Some(Self::Node),
            ("v1", "Service") => Some(Self::Service),
            ("discovery.k8s.io/v1", "EndpointSlice") => Some(Self::EndpointSlice),
            ("networking.k8s.io/v1", "ServiceCIDR") => Some(Self::ServiceCidr),
            ("v1", "Namespace") => Some(Self::Namespace),
            ("v1", "Pod") => Some(Self::Pod),
            _ => None,
        }
    }
}

impl Header {
    /// `None` when it is no Kubernetes object.
    fn shape(self, skipped: &mut BTreeSet<String>) -> Option<Shape> {
        let (api_version, kind) = (self.api_version?, self.kind?);
        if let Some(shape) = Shape::of_kind(&api_version, &kind) {
            return Some(shape);
        }
        Some(match (api_version.as_str(), kind.as_str()) {
            ("v1", "List") => match self.items {
                Some(Items::Objects(items)) => {
                    Shape::List(items.into_iter().map(|h| h.shape(skipped)).collect::<Option<_>>()?)
                }
                Some(Items::Other(_)) | None => Shape::Nothing,
            },
            _ => {
                skipped.insert(format!("{api_version}/{kind}"));
                Shape::Nothing
            }
        })
    }
}

/// Reads one object of a known shape.
struct ObjectSeed<'a> {
    shape: &'a Shape,
    objects: &'a mut Vec<Object>,
}

impl<'de> DeserializeSeed<'de> for ObjectSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let object = match self.shape {
            Shape::Node => Object::Node(Arc::new(Node::deserialize(deserializer)?)),
            Shape::Service => Object::Service(Arc::new(Service::deserialize(deserializer)?)),
            Shape::EndpointSlice => {
                Object::EndpointSlice(Arc::new(EndpointSlice::deserialize(deserializer)?))
            }
            Shape::ServiceCidr => Object::ServiceCidr(Arc::new(ServiceCidr::deserialize(deserializer)?)),
            Shape::Namespace => Object::Namespace(Arc::new(Namespace::deserialize(deserializer)?)),
            Shape::Pod => Object::Pod(Arc::new(Pod::deserialize(deserializer)?)),
            Shape::List(shapes) => {
                return deserializer.deserialize_map(ListVisitor { shapes, objects: self.objects });
            }
            Shape::Nothing => return IgnoredAny::deserialize(deserializer).map(drop),
        };
        self.objects.push(object);
        Ok(())
    }
}

/// Reads `{kind: List, items: [...]}`: as a map of fields, then as the sequence in `items`.
struct ListVisitor<'a> {
    shapes: &'a [Shape],
    objects: &'a mut Vec<Object>,
}

impl<'de> DeserializeSeed<'de> for ListVisitor<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ListVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a List of Kubernetes objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { shapes, objects } = self;
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" {
                map.next_value_seed(ListVisitor { shapes, objects: &mut *objects })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for shape in self.shapes {
            items.next_element_seed(ObjectSeed { shape, objects: &mut *self.objects })?;
        }
        Ok(())
    }
}
