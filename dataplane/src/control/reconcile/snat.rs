//! Source ports of translated traffic: kept from the kernel, and found out which ones processes hold already.

use super::{Reconciler, sentence};
use crate::control::warnings::Topic;
use crate::control::{kernel, snat_ports};

impl Reconciler {
    /// Reserves the range in force, and the host ports of pods.
    pub(super) fn reserve_ports(&mut self) {
        let range = self.desired.settings().into_iter().flat_map(|settings| settings.snat_ports.clone());
        let host_ports = self.desired.ports().values().flat_map(|port| &port.host_ports);
        let wanted = range.chain(host_ports.map(|host_port| host_port.port.get())).collect();
        let reserved = snat_ports::reserve(&self.config.run_dir, &wanted);
        self.warnings.set(Topic::Reservation, sentence(reserved));
    }

    /// Looks which ports of the range processes listen on. Returns whether they are others than before.
    pub(super) fn look_for_listeners(&mut self) -> bool {
        let Some(settings) = self.desired.settings() else { return false };
        let found = match kernel::listening(&settings.snat_ports) {
            Ok(found) => found,
            Err(error) => {
                self.warnings.set(Topic::Listeners, vec![error.to_string()]);
                return false;
            }
        };
        let changed = found != self.listening;
        let list = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let warning = format!("ports of the translation range with listening processes are left out: {list}");
        self.warnings.set(Topic::Listeners, if found.is_empty() { Vec::new() } else { vec![warning] });
        self.listening = found;
        changed
    }
}
