// kstatus reads objects as `kubectl get --output json` prints them, and prints what others think of each: kstatus, by which
// Flux and helm wait, and Argo CD, by the health.lua of manifests/argocd.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// verdict is what is thought of one object.
type verdict struct {
	Kind    string `json:"kind"`
	Name    string `json:"name"`
	Kstatus string `json:"kstatus"`
	Health  string `json:"health"`
	// Message is Argo CD's.
	Message string `json:"message"`
}

func main() {
	scripts := flag.String("argocd", "manifests/argocd", "folder with GROUP/KIND/health.lua")
	flag.Parse()
	if err := run(*scripts, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(1)
	}
}

func run(scripts string, in io.Reader, out io.Writer) error {
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	var list unstructured.UnstructuredList
	if err := list.UnmarshalJSON(text); err != nil {
		return fmt.Errorf("reading the list of objects: %w", err)
	}
	if !strings.HasSuffix(list.GetKind(), "List") {
		return errors.New("the input is no list of objects, as `kubectl get KIND --output json` prints it")
	}
	verdicts := []verdict{}
	for i := range list.Items {
		verdict, err := judge(scripts, &list.Items[i])
		if err != nil {
			return fmt.Errorf("%s/%s: %w", list.Items[i].GetKind(), list.Items[i].GetName(), err)
		}
		verdicts = append(verdicts, verdict)
	}
	return json.NewEncoder(out).Encode(verdicts)
}

func judge(scripts string, object *unstructured.Unstructured) (verdict, error) {
	result, err := status.Compute(object)
	if err != nil {
		return verdict{}, err
	}
	health, message, err := argo(scripts, object)
	return verdict{
		Kind:    object.GetKind(),
		Name:    object.GetName(),
		Kstatus: result.Status.String(),
		Health:  health,
		Message: message,
	}, err
}

// argo runs the script of the object's kind with the libraries that Argo CD gives it (util/lua/lua.go there).
func argo(scripts string, object *unstructured.Unstructured) (health, message string, err error) {
	// Before it asks a script (gitops-engine, pkg/health).
	if object.GetDeletionTimestamp() != nil {
		return "Progressing", "Pending deletion", nil
	}
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage,
		lua.BaseLibName: lua.OpenBase,
		lua.TabLibName:  lua.OpenTable,
	} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			return "", "", err
		}
	}
	state.SetGlobal("obj", value(state, object.Object))
	kind := object.GroupVersionKind()
	if err := state.DoFile(filepath.Join(scripts, kind.Group, kind.Kind, "health.lua")); err != nil {
		return "", "", err
	}
	answer, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return "", "", errors.New("health.lua returned no table")
	}
	health = lua.LVAsString(answer.RawGetString("status"))
	switch health {
	case "Healthy", "Progressing", "Suspended", "Degraded":
		return health, lua.LVAsString(answer.RawGetString("message")), nil
	default:
		return "", "", fmt.Errorf("health.lua said %q, which Argo CD doesn't know", health)
	}
}

// value is a value of JSON in Lua.
func value(state *lua.LState, json any) lua.LValue {
	switch json := json.(type) {
	case map[string]any:
		table := state.CreateTable(0, len(json))
		for name, field := range json {
			table.RawSetString(name, value(state, field))
		}
		return table
	case []any:
		table := state.CreateTable(len(json), 0)
		for _, item := range json {
			table.Append(value(state, item))
		}
		return table
	case string:
		return lua.LString(json)
	case bool:
		return lua.LBool(json)
	case int64:
		return lua.LNumber(json)
	case float64:
		return lua.LNumber(json)
	default:
		return lua.LNil
	}
}
