// libcni VERB CONFLIST PLUGINS CACHE [CONTAINER NETNS [CAPABILITIES]]: one call of the reference runtime library.
//
// VERB is add, check, del, gc, status or validate; PLUGINS is a list of directories, separated by colons; CACHE is where
// libcni keeps the results of ADD; CAPABILITIES is the JSON of the runtime's capability arguments. For gc, CONTAINER is the
// only valid attachment, or "-" for none. It prints the result of ADD; an error goes to standard error, with exit code 1.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

const ifname = "eth0"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 4 {
		return fmt.Errorf("usage: libcni VERB CONFLIST PLUGINS CACHE [CONTAINER NETNS [CAPABILITIES]]")
	}
	list, err := libcni.ConfListFromFile(args[1])
	if err != nil {
		return err
	}
	runtime := &libcni.RuntimeConf{IfName: ifname, CacheDir: args[3]}
	if len(args) > 5 {
		runtime.ContainerID, runtime.NetNS = args[4], args[5]
	}
	if len(args) > 6 {
		if err := json.Unmarshal([]byte(args[6]), &runtime.CapabilityArgs); err != nil {
			return err
		}
	}
	plugins := libcni.NewCNIConfigWithCacheDir(strings.Split(args[2], ":"), args[3], nil)
	return call(context.Background(), args[0], plugins, list, runtime)
}

func call(ctx context.Context, verb string, plugins *libcni.CNIConfig, list *libcni.NetworkConfigList, runtime *libcni.RuntimeConf) error {
	switch verb {
	case "add":
		result, err := plugins.AddNetworkList(ctx, list, runtime)
		if err != nil {
			return err
		}
		return result.Print()
	case "check":
		return plugins.CheckNetworkList(ctx, list, runtime)
	case "del":
		return plugins.DelNetworkList(ctx, list, runtime)
	case "gc":
		valid := []types.GCAttachment{}
		if runtime.ContainerID != "" && runtime.ContainerID != "-" {
			valid = append(valid, types.GCAttachment{ContainerID: runtime.ContainerID, IfName: ifname})
		}
		return plugins.GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: valid})
	case "status":
		return plugins.GetStatusNetworkList(ctx, list)
	case "validate":
		capabilities, err := plugins.ValidateNetworkList(ctx, list)
		if err == nil {
			fmt.Println(strings.Join(capabilities, " "))
		}
		return err
	default:
		return fmt.Errorf("unknown verb %q", verb)
	}
}
