package controller

import (
	"context"
	"errors"
	"fmt"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router/services"
	"flagger.app/flagger/pkg/workload"
)

// apply carries out one action for a Canary with its new status.
func (c *Controller) apply(ctx context.Context, v *view, stored *v1beta1.Canary, action rollout.Action) error {
	if err := v.equipped(action); err != nil {
		return err
	}
	switch action.(type) {
	case rollout.EnsurePrimary, rollout.OwnPrimary, rollout.ScaleTargetUp, rollout.ScaleTargetToZero, rollout.PauseTarget,
		rollout.HoldTarget, rollout.RaisePrimary, rollout.RestoreCopies:
		return c.applyToWorkload(ctx, v, stored, action)
	case rollout.EnsureBackendServices:
		return c.ensureBackends(ctx, v, stored)
	case rollout.EnsureApexService:
		wanted, err := services.Apex(stored, v.apexInput(stored), c.main)
		if err != nil {
			return err
		}
		return c.applyObjects(ctx, v, c.main, stored, wanted)
	case rollout.EnsureRoutes:
		wanted, err := v.provider.Render(stored, trafficOf(stored), c.mesh)
		if err != nil {
			return err
		}
		return c.applyObjects(ctx, v, c.mesh, stored, wanted)
	case rollout.AddFinalizer:
		return c.canaries.SetFinalizer(ctx, v.key, stored.UID, true)
	case rollout.RemoveFinalizer:
		return c.canaries.SetFinalizer(ctx, v.key, stored.UID, false)
	case rollout.RevertRouting:
		return c.revertRouting(ctx, v)
	case rollout.RestoreTarget:
		if err := c.resumePreviousScalers(ctx, v); err != nil {
			return err
		}
		return workload.Restore(ctx, v.target, stored)
	case rollout.EnsurePrimaryScaler:
		if v.facts.Primary.Replicas > 0 {
			// A primary without pods gets some only from the autoscaler that took them away.
			if err := workload.RetireOtherScalers(ctx, c.main.Client(), stored); err != nil {
				return err
			}
		}
		return c.applyObjects(ctx, v, c.main, stored, v.scaler)
	case rollout.RetireRoutes:
		return c.retireRoutes(ctx, v)
	case rollout.RetireServices:
		return c.retireServices(ctx, v)
	case rollout.RetireCopies:
		return c.retireCopies(ctx, v, stored)
	case rollout.RetireScalers:
		return c.main.Delete(ctx, stored, v.previous.scalers)
	case rollout.ResumePreviousScalers:
		return c.resumePreviousScalers(ctx, v)
	default:
		return named(stored, fmt.Errorf("the rules asked for an unknown action %T", action))
	}
}

// ensureBackends makes the Services of both sides, and what else pods need before they can start.
func (c *Controller) ensureBackends(ctx context.Context, v *view, stored *v1beta1.Canary) error {
	wanted, err := services.Backends(stored, v.servicesInput(), c.main)
	if err != nil {
		return err
	}
	if err := c.applyObjects(ctx, v, c.main, stored, wanted); err != nil || v.provider == nil || !v.outline.early {
		return err
	}
	routes, err := v.provider.Render(stored, trafficOf(stored), c.mesh)
	if err != nil {
		return err
	}
	return c.applyObjects(ctx, v, c.mesh, stored, early(routes))
}

// equipped checks that the view has what an action needs. The rules ask for nothing that was not observed; should they, the
// pass fails instead of writing a half-empty object.
func (v *view) equipped(action rollout.Action) error {
	switch action.(type) {
	case rollout.EnsureBackendServices, rollout.EnsureApexService:
		if !v.selects() {
			return named(v.canary, errors.New("the selector of the target is not known"))
		}
	case rollout.EnsureRoutes:
		if v.provider == nil {
			return named(v.canary, errors.New("the routing provider is not known"))
		}
	case rollout.AddFinalizer, rollout.RemoveFinalizer, rollout.RevertRouting, rollout.RetireRoutes, rollout.RetireServices,
		rollout.RetireScalers, rollout.ResumePreviousScalers:
	default:
		if v.target == nil {
			return named(v.canary, errors.New("the target is not known"))
		}
	}
	return nil
}
